//! Envoy's response flags, a bit each: what Envoy itself noted of a request, beside its status.

/// How Envoy writes each in an access log, by its number.
const NAMES: [&str; 30] = [
    "LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX",
    "SI", "IH", "DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF", "DO", "DR", "UDO",
];

/// The flags of one request so far, as Envoy numbers them in `response.flags`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(pub u64);

impl Flags {
    /// Upstream reset, connection terminated, protocol error: `UR`, `UC`, `UPE`. Not an idle timeout: a client that does
    /// not read would break its target for everybody.
    const UPSTREAM_BROKE: u64 = 1 << 4 | 1 << 6 | 1 << 23;
    /// `UO`.
    const OVERFLOW: u64 = 1 << 7;
    /// `DC`.
    const CLIENT_LEFT: u64 = 1 << 14;
    /// `NC`.
    const NO_CLUSTER: u64 = 1 << 24;

    /// Whether the model server, or the way to it, ended the exchange.
    pub const fn upstream_broke(self) -> bool {
        self.0 & Self::UPSTREAM_BROKE != 0
    }

    /// Whether one of Envoy's circuit breakers was full, so that nobody was asked.
    pub const fn overflow(self) -> bool {
        self.0 & Self::OVERFLOW != 0
    }

    /// Whether the client ended its connection first.
    pub const fn client_left(self) -> bool {
        self.0 & Self::CLIENT_LEFT != 0
    }

    /// Writes their names, with commas between; `-` for none.
    pub fn push_names(self, text: &mut String) {
        let empty = text.len();
        for (number, name) in NAMES.iter().enumerate() {
            if self.0 & 1 << number != 0 {
                if text.len() > empty {
                    text.push(',');
                }
                text.push_str(name);
            }
        }
        if text.len() == empty {
            text.push('-');
        }
    }

    /// Whether there is no such cluster: it can't have been asked, and never will.
    pub const fn no_cluster(self) -> bool {
        self.0 & Self::NO_CLUSTER != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of Envoy's `CoreResponseFlag`.
    #[test]
    fn each_flag_is_read_by_its_number() {
        for number in 0..64 {
            let flags = Flags(1 << number);
            let read = (
                flags.upstream_broke(),
                flags.overflow(),
                flags.client_left(),
                flags.no_cluster(),
            );
            let wanted = (
                matches!(number, 4 | 6 | 23),
                number == 7,
                number == 14,
                number == 24,
            );
            assert_eq!(read, wanted, "{number}");
        }
    }
}
