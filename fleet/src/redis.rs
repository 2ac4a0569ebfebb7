//! Books in Redis: one connection, the script, and what is to be done when either is gone.

use core::time::Duration;
use std::time::Instant;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind, Value, cmd};
use tokio::sync::Mutex;
use tollgate_shares::{Answer, BOUND, Message, Timing};

use crate::codec::{self, Writer};
use crate::error::Error;

const SCRIPT: &str = include_str!("coordinator.lua");
/// After a connection that failed, others fail at once for so long.
const BACK_OFF: Duration = Duration::from_millis(200);
/// What the script's keys end with; the first is the name alone.
const KEYS: [&str; 11] = [
    "",
    ":roll",
    ":ends",
    ":held",
    ":free",
    ":freed",
    ":log",
    ":ended",
    ":subjects",
    ":checks",
    ":pending",
];

/// Where books are, and how they are kept. The same for all servers beside them.
#[derive(Debug, Clone)]
pub struct Config {
    /// `redis://[user:password@]host:port`, or `redis+unix:///path`.
    pub address: String,
    /// What all keys of these books begin with. In a cluster it has a `{tag}`, so that they are in one place.
    pub name: String,
    /// In microseconds.
    pub timing: Timing,
    /// Slots when the books begin.
    pub parts: u32,
    /// For a connection, and for an answer.
    pub timeout: Duration,
    /// Whether Redis comes back with all that it acknowledged: `appendonly yes`, `appendfsync always`, and no replica that
    /// takes over. Where it does not, books begin anew whenever another Redis process is found; for that a server has to
    /// reach Redis without a proxy between, which would hide that there is another.
    pub survives: bool,
}

/// The books of one fleet.
#[derive(Debug)]
pub struct Books {
    config: Config,
    client: Client,
    /// Timing, parts and whether data survive, as the script compares them.
    setup: Vec<u8>,
    link: Mutex<Link>,
}

#[derive(Debug, Clone)]
enum Link {
    None,
    /// Since when, and why.
    Failed(Instant, Error),
    Up(Connection),
}

/// To one process of Redis. Another process means another connection.
#[derive(Debug, Clone)]
struct Connection {
    number: u64,
    to: MultiplexedConnection,
    /// The script's digest.
    script: String,
    /// Which process; empty where that does not matter.
    run: Vec<u8>,
}

impl Books {
    /// Connects with the first message.
    pub fn new(config: Config) -> Result<Self, Error> {
        let client =
            Client::open(config.address.as_str()).map_err(|error| Error::Address(error.to_string()))?;
        Ok(Self {
            setup: setup(&config)?,
            config,
            client,
            link: Mutex::new(Link::None),
        })
    }

    /// Takes a message and answers it. `None` for a message that a later one has overtaken, and for a member's last.
    ///
    /// After an error nobody knows whether the message was heard. It is not sent again: the member asks once more.
    pub async fn receive(&self, message: &Message) -> Result<Option<Answer>, Error> {
        self.ask(message, None).await
    }

    /// The same at a time that the caller says, in microseconds.
    #[cfg(feature = "wall")]
    pub async fn receive_at(&self, message: &Message, wall: u64) -> Result<Option<Answer>, Error> {
        self.ask(message, Some(wall)).await
    }

    /// Drops the books, for when Redis came back with older ones, or servers have another timing. Nothing is granted for
    /// `ttl + skew` from then on.
    pub async fn begin_anew(&self) -> Result<(), Error> {
        let mut unlink = cmd("UNLINK");
        for key in KEYS {
            unlink.arg(format!("{}{key}", self.config.name));
        }
        let mut connection = self.connection().await?;
        let done: Result<Value, _> = unlink.query_async(&mut connection.to).await;
        match done {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(connection.number, &error).await),
        }
    }

    async fn ask(&self, message: &Message, wall: Option<u64>) -> Result<Option<Answer>, Error> {
        let written = codec::write(message)?;
        let mut connection = self.connection().await?;
        // Used only where books begin, but nobody knows before.
        let mut epoch = [0; 8];
        getrandom::fill(&mut epoch).map_err(|error| Error::Refused(error.to_string()))?;
        let run = |script: &str| {
            let mut run = cmd("EVALSHA");
            run.arg(script).arg(1).arg(&self.config.name);
            run.arg(&written)
                .arg(&self.setup)
                .arg(&epoch)
                .arg(&connection.run);
            if let Some(wall) = wall {
                run.arg(wall);
            }
            run
        };
        let mut answer: Result<Value, _> = run(&connection.script).query_async(&mut connection.to).await;
        if answer.as_ref().is_err_and(is_unknown_script) {
            // Somebody flushed the scripts. Nothing was run, so it may be sent again.
            answer = match load(&mut connection.to).await {
                Ok(script) => run(&script).query_async(&mut connection.to).await,
                Err(error) => Err(error),
            };
        }
        match answer {
            Ok(Value::BulkString(bytes)) => codec::read(&bytes, message).map(Some),
            Ok(Value::Nil) => Ok(None),
            Ok(_) => Err(Error::Garbled("bytes")),
            Err(error) => Err(self.failed(connection.number, &error).await),
        }
    }

    /// The connection, made anew where it broke. Who comes while another one makes it waits for that.
    async fn connection(&self) -> Result<Connection, Error> {
        let mut link = self.link.lock().await;
        let number = match &*link {
            Link::Up(connection) => return Ok(connection.clone()),
            Link::Failed(since, why) if since.elapsed() < BACK_OFF => return Err(why.clone()),
            _ => NEXT.fetch_add(1, core::sync::atomic::Ordering::Relaxed),
        };
        let timeout = self.config.timeout;
        let made = tokio::time::timeout(timeout, self.connect(number)).await;
        match made.unwrap_or(Err(Error::TimedOut(timeout))) {
            Ok(connection) => {
                *link = Link::Up(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                *link = Link::Failed(Instant::now(), error.clone());
                Err(error)
            }
        }
    }

    async fn connect(&self, number: u64) -> Result<Connection, Error> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.timeout))
            .set_response_timeout(Some(self.config.timeout));
        let say = |error: RedisError| self.name(&error);
        let mut to = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(say)?;
        let about: String = cmd("INFO").query_async(&mut to).await.map_err(say)?;
        let policy = field(&about, "maxmemory_policy").ok_or(Error::Unknown("maxmemory_policy"))?;
        // What is `volatile` evicts keys alone that expire, and none of these do.
        if policy.starts_with("allkeys") {
            return Err(Error::Evicts(policy.to_owned()));
        }
        let run = match self.config.survives {
            true => Vec::new(),
            false => field(&about, "run_id")
                .ok_or(Error::Unknown("run_id"))?
                .as_bytes()
                .to_vec(),
        };
        let script = load(&mut to).await.map_err(say)?;
        Ok(Connection {
            number,
            to,
            script,
            run,
        })
    }

    /// Names an error, and gives the connection up where that is what failed.
    async fn failed(&self, number: u64, error: &RedisError) -> Error {
        let named = self.name(error);
        // A replica now may have been the primary before: the address leads to another one.
        let is_replica = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
        if is_replica || matches!(named, Error::Unreachable(_) | Error::TimedOut(_)) {
            let mut link = self.link.lock().await;
            if matches!(&*link, Link::Up(connection) if connection.number == number) {
                *link = Link::None;
            }
        }
        named
    }

    fn name(&self, error: &RedisError) -> Error {
        match error.code() {
            Some("SETUP") => Error::OtherSetup,
            Some("FORMAT") => Error::OtherFormat(error.detail().unwrap_or_default().to_owned()),
            _ if error.is_timeout() => Error::TimedOut(self.config.timeout),
            _ if is_loading(error) || error.is_io_error() || error.is_unrecoverable_error() => {
                Error::Unreachable(error.to_string())
            }
            _ => Error::Refused(error.to_string()),
        }
    }
}

/// Numbers connections of this process.
static NEXT: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

fn setup(config: &Config) -> Result<Vec<u8>, Error> {
    let timing = &config.timing;
    let numbers = [
        ("ttl", timing.ttl),
        ("skew", timing.skew),
        ("max_step", timing.max_step),
        ("patience", timing.patience),
        ("parts", u64::from(config.parts.max(1).next_power_of_two())),
        // Not used by the script, but servers that differ in it would begin anew in turns.
        ("survives", u64::from(config.survives)),
    ];
    let mut writer = Writer::default();
    writer.list(numbers.len());
    for (what, found) in numbers {
        if found >= BOUND {
            return Err(Error::TooLarge { what, found });
        }
        writer.number(found);
    }
    Ok(writer.into_vec())
}

async fn load(to: &mut MultiplexedConnection) -> Result<String, RedisError> {
    cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query_async(to).await
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

fn is_loading(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::BusyLoading)
}

/// A line of what `INFO` says.
fn field<'text>(about: &'text str, name: &str) -> Option<&'text str> {
    let mut lines = about.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
