//! The script and the Rust rule side by side: what one answers, the other has to.

use tollgate_fleet::{Books, Config};
use tollgate_shares::{Answer, Coordinator, Epoch, Message, Time};

use crate::server::Server;

pub(crate) struct Twin<'server> {
    server: &'server Server,
    config: Config,
    /// Two servers beside one Redis.
    books: [Books; 2],
    rule: Option<Coordinator>,
    pub(crate) epoch: Epoch,
    pub(crate) messages: usize,
}

impl<'server> Twin<'server> {
    pub(crate) fn new(server: &'server Server, config: Config) -> Self {
        let books = [(); 2].map(|()| Books::new(config.clone()).unwrap());
        Self {
            server,
            config,
            books,
            rule: None,
            epoch: Epoch(0),
            messages: 0,
        }
    }

    /// Both take the message, and answer the same.
    pub(crate) async fn receive(&mut self, message: &Message, wall: Time) -> Option<Answer> {
        self.messages += 1;
        let script = self.books[self.messages % 2]
            .receive_at(message, wall)
            .await
            .unwrap();
        let Self {
            rule, epoch, config, ..
        } = self;
        let rule = rule.get_or_insert_with(|| {
            *epoch = script.as_ref().unwrap().epoch;
            Coordinator::new(config.timing, *epoch, config.parts, wall)
        });
        let expected = rule.receive(message, wall);
        assert_eq!(
            script, expected,
            "message {} of {}: {message:?}",
            self.messages, config.name
        );
        if self.messages.is_multiple_of(32) {
            self.compare_sizes().await;
        }
        expected
    }

    /// Both have as many subjects, members and entries of the log, once books were begun.
    pub(crate) async fn compare_sizes(&self) {
        let Some(rule) = &self.rule else { return };
        let mut sizes = redis::pipe();
        let name = &self.config.name;
        sizes.cmd("HLEN").arg(format!("{name}:subjects"));
        sizes.cmd("HLEN").arg(format!("{name}:roll"));
        sizes.cmd("ZCARD").arg(format!("{name}:ends"));
        sizes.cmd("ZCARD").arg(format!("{name}:log"));
        let client = redis::Client::open(self.server.address()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let found: [usize; 4] = sizes.query_async(&mut connection).await.unwrap();
        let [subjects, members, _, log] = rule.sizes();
        assert_eq!(found, [subjects, members, members, log], "{name}");
    }

    pub(crate) async fn lose_data(&mut self) {
        self.books[0].begin_anew().await.unwrap();
        self.rule = None;
    }

    /// How many members have slots, and how many subjects are in the books.
    pub(crate) fn sizes(&self) -> [usize; 4] {
        self.rule.as_ref().map_or([0; 4], Coordinator::sizes)
    }
}
