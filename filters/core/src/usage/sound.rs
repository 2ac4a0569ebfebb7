//! Seconds of sound, by the bytes of the file that was sent: some model servers count by them, and none says how many
//! before it has heard it.

use crate::body::Input;
use crate::endpoint::Endpoint;

/// Fewest bytes of a second: 4 kbit/s, less than any code for speech in use. Silence may have fewer.
const LEAST_BYTES: u64 = 500;
/// Seconds beyond that, as some servers count no fewer for any file.
const BEYOND: u64 = 10;
/// Bytes of a second where nobody says how many there were: 256 kbit/s, the 16 bits at 16 kHz that speech models hear.
const USUAL_BYTES: u64 = 32_000;
/// Seconds that sound at an address may have: a day.
const MAX_UNSEEN: u64 = 86_400;
/// Seconds of it that are reserved.
const USUAL_UNSEEN: u64 = 3_600;

/// Seconds that a model server may hear for a request.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sound {
    /// What it may say: beyond it, it is not believed.
    pub max: u64,
    /// What is reserved.
    pub reserved: u64,
    /// What is charged where it heard and nobody says how much.
    pub usual: u64,
}

impl Sound {
    /// What a request has; none where no server counts by seconds.
    pub fn of(endpoint: Endpoint, input: &Input) -> Self {
        if !matches!(endpoint, Endpoint::Transcriptions | Endpoint::Translations) {
            return Self::default();
        }
        let sent = input.audio.div_ceil(LEAST_BYTES).saturating_add(BEYOND);
        let unseen = |each: u64| input.unseen.saturating_mul(each).saturating_add(sent);
        Self {
            max: unseen(MAX_UNSEEN),
            reserved: unseen(USUAL_UNSEEN),
            usual: input.audio.div_ceil(USUAL_BYTES),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound(endpoint: Endpoint, audio: u64, unseen: u64) -> Sound {
        let input = Input {
            audio,
            unseen,
            ..Input::default()
        };
        Sound::of(endpoint, &input)
    }

    #[test]
    fn no_code_for_speech_has_fewer_bytes_a_second() {
        for (kilobits, seconds) in [(4, 3_600), (8, 3_600), (64, 60), (1_536, 600)] {
            let file = kilobits * 125 * seconds;
            let sound = sound(Endpoint::Transcriptions, file, 0);
            assert!(sound.max >= seconds, "{kilobits} kbit/s");
            assert_eq!(sound.max, sound.reserved);
            assert!(sound.usual <= sound.max);
        }
        let small = sound(Endpoint::Translations, 1_000, 0);
        assert_eq!((small.max, small.usual), (12, 1));
    }

    #[test]
    fn nowhere_else_is_anything_heard() {
        for endpoint in [
            Endpoint::Chat,
            Endpoint::Responses,
            Endpoint::Speech,
            Endpoint::ImagesGenerations,
        ] {
            assert_eq!(sound(endpoint, 1 << 20, 1), Sound::default());
        }
    }

    #[test]
    fn what_is_at_an_address_may_be_long() {
        let sound = sound(Endpoint::Transcriptions, 0, 1);
        assert_eq!((sound.max, sound.reserved, sound.usual), (86_410, 3_610, 0));
    }
}
