//! An access logger that writes usage records itself, by way of a journal, so that none is lost where its gateway is killed.
//! Native alone: it takes a file in memory.

use std::sync::Arc;

use tollgate_core::config::ConfigError;
use tollgate_core::exchange::Exchange as _;
use tollgate_core::plugin_config::to_json;
use tollgate_core::state::Clock as _;
use tollgate_core::usage::line::Line;
use tollgate_core::usage::log::Config;
use tollgate_host::{AccessLogger, Attribute, Journal, JournalSettings, LogContext, RootContext};

/// What one worker has.
pub struct UsageLog {
    journal: Journal,
}

impl AccessLogger for UsageLog {
    const NAME: &'static str = "usage";
    type Config = Config;

    fn check(configuration: Vec<u8>) -> Result<Config, Vec<ConfigError>> {
        Config::parse(&to_json(configuration)?)
    }

    fn start(config: Arc<Config>, _host: &mut RootContext) -> Result<Self, ConfigError> {
        let Config {
            file,
            journal,
            restore_limits,
        } = (*config).clone();
        let settings = JournalSettings {
            log: file,
            folder: journal,
            levels: restore_limits,
        };
        let journal = Journal::open(settings).map_err(|why| ConfigError::new("journal", why))?;
        Ok(Self { journal })
    }

    fn log(&mut self, host: &mut LogContext) {
        self.journal.finish(host, |id, members| {
            let stream = &host.stream;
            let number = |attribute| stream.number(attribute);
            let cluster = stream.attribute(Attribute::Cluster).unwrap_or_default();
            let began = number(Attribute::Began);
            let duration = match number(Attribute::Duration) {
                0 => stream.now().unwrap_or(began).saturating_sub(began),
                duration => duration,
            };
            let line = Line {
                id,
                began_ms: began / 1_000_000,
                status: number(Attribute::Status),
                flags: stream.flags(),
                cluster: &String::from_utf8_lossy(&cluster),
                attempts: stream.attempts(),
                bytes_in: number(Attribute::BytesIn),
                bytes_out: number(Attribute::BytesOut),
                duration_ms: duration / 1_000_000,
            };
            line.with(members)
        });
    }
}
