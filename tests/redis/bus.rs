//! Messages between processes.

use super::servers::{Cluster, Redis, until};
use dogpile::backend::{Backend, Bus, Heard, Listener, RedisBackend, RedisBackendBuilder};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
enum Told {
    Message(u64, Vec<u8>),
    Connected(u64),
    Lost,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Told>>>);

impl Log {
    fn listener(&self) -> Listener {
        let log = Arc::clone(&self.0);
        Arc::new(move |heard: Heard<'_>| {
            log.lock().unwrap().push(match heard {
                Heard::Message { sequence, message } => Told::Message(sequence, message.to_vec()),
                Heard::Connected { sequence } => Told::Connected(sequence),
                Heard::Lost => Told::Lost,
            });
        })
    }
    fn has(&self, told: &Told) -> bool {
        self.0.lock().unwrap().contains(told)
    }
    fn all(&self) -> Vec<Told> {
        self.0.lock().unwrap().clone()
    }
}

fn bus(builder: RedisBackendBuilder) -> Arc<dyn Bus> {
    Backend::bus(&builder.timeout(Duration::from_millis(500)).build().unwrap()).unwrap()
}

#[test]
fn messages_are_numbered_and_come_in_their_order() {
    let (server, cluster) = (Redis::start(), Cluster::start());
    for builder in [
        RedisBackend::builder("127.0.0.1", server.port()),
        RedisBackend::over_socket(server.socket()).resp3(true),
        RedisBackend::of_cluster(cluster.addresses()),
    ] {
        let (sender, receiver) = (bus(builder.clone()), bus(builder));
        let (log, other) = (Log::default(), Log::default());
        let first = sender.publish("topic", b"before").unwrap();
        let following = receiver.follow("topic", log.listener());
        let _other = receiver.follow("another topic", other.listener());
        until("it listens", || log.has(&Told::Connected(first)));
        let mut expected = vec![Told::Connected(first)];
        for i in 1..=100 {
            let message = [b"message:\0\r\n".as_slice(), &[i as u8]].concat();
            assert_eq!(sender.publish("topic", &message).unwrap(), first + i);
            expected.push(Told::Message(first + i, message));
        }
        until("all have come", || log.all().len() == expected.len());
        assert_eq!(log.all(), expected);
        drop(following);
        until("the server knows", || {
            sender.publish("topic", b"more").unwrap();
            let all = log.all().len();
            sender.publish("topic", b"more").unwrap();
            log.all().len() == all
        });
        assert!(other.all().iter().all(|told| matches!(told, Told::Connected(0))), "{:?}", other.all());
    }
}

#[test]
fn who_loses_its_connection_is_told_and_connected_again() {
    let mut server = Redis::start();
    let builder = RedisBackend::builder("127.0.0.1", server.port());
    let (sender, receiver) = (bus(builder.clone()), bus(builder));
    let log = Log::default();
    let _following = receiver.follow("topic", log.listener());
    until("it listens", || log.has(&Told::Connected(0)));
    let first = sender.publish("topic", b"1").unwrap();
    until("it hears", || log.has(&Told::Message(first, b"1".to_vec())));
    // The connection breaks: the numbers go on.
    server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    until("it listens again", || log.has(&Told::Connected(first)));
    assert_eq!(log.all()[2..], [Told::Lost, Told::Connected(first)]);
    // The server dies: its successor begins anew, as those who follow see.
    server.restart();
    until("it listens to the next", || log.all().len() == 6);
    assert_eq!(log.all()[4..], [Told::Lost, Told::Connected(0)]);
    let second = sender.publish("topic", b"2").unwrap();
    assert!(second > first, "no number comes twice");
    until("it hears", || log.has(&Told::Message(second, b"2".to_vec())));
    // It hangs: nothing closes the connection, and who follows notices.
    server.pause();
    until("it is noticed", || log.all().len() == 8);
    assert_eq!(log.all()[7], Told::Lost);
    assert!(sender.publish("topic", b"3").is_err());
    server.resume();
    until("it listens again", || matches!(log.all().get(8), Some(Told::Connected(_))));
}
