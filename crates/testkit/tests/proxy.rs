//! The proxy between a client and a server that sends everything back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use testkit::proxy::{Behavior, Direction, Flow, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(10);
/// Long enough on loopback for what is not to come.
const SILENCE: Duration = Duration::from_millis(300);

/// A server that sends everything back, and puts `greeting` before it.
async fn echo(greeting: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(greeting).await?;
                let (mut reads, mut writes) = stream.split();
                tokio::io::copy(&mut reads, &mut writes).await
            });
        }
    });
    address
}

async fn proxied() -> (Proxy, TcpStream) {
    let proxy = Proxy::start(echo(b"").await).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.set_nodelay(true).unwrap();
    // Both sides of the proxy are there once the first bytes are back.
    says_back(&mut client, b"hello").await;
    (proxy, client)
}

async fn says_back(client: &mut TcpStream, words: &[u8]) {
    client.write_all(words).await.unwrap();
    assert_eq!(read(client, words.len()).await, words);
}

async fn read(client: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut found = vec![0; length];
    timeout(DEADLINE, client.read_exact(&mut found))
        .await
        .unwrap()
        .unwrap();
    found
}

async fn is_silent(client: &mut TcpStream) {
    let read = timeout(SILENCE, client.read_u8()).await;
    assert!(read.is_err(), "{read:?}");
}

async fn is_reset(client: &mut TcpStream) {
    let error = timeout(DEADLINE, client.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_passes_is_whole_and_an_end_is_an_end() {
    let (proxy, mut client) = proxied().await;
    let words: Vec<u8> = (0..2_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let (mut reads, mut writes) = client.split();
    let mut found = Vec::new();
    let send = async {
        writes.write_all(&words).await.unwrap();
        writes.shutdown().await.unwrap();
    };
    let (read, ()) = tokio::join!(timeout(DEADLINE, reads.read_to_end(&mut found)), send);
    read.unwrap().unwrap();
    assert!(found == words, "{} of {} bytes", found.len(), words.len());
    let passed = u64::try_from(words.len() + 5).unwrap();
    assert_eq!(proxy.passed(Direction::ToServer), passed);
    assert_eq!(proxy.passed(Direction::ToClient), passed);
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn a_half_open_connection_says_nothing_and_is_reset_when_the_network_is_back() {
    for direction in [Direction::ToServer, Direction::ToClient] {
        let (proxy, mut client) = proxied().await;
        proxy.set(Behavior::one_way(direction, Flow::swallow()));
        client.write_all(b"lost").await.unwrap();
        is_silent(&mut client).await;
        assert_eq!(proxy.stats().swallowed, 4);
        proxy.set(Behavior::default());
        is_reset(&mut client).await;
    }
}

#[tokio::test]
async fn a_half_open_connection_that_has_lost_nothing_goes_on() {
    let (proxy, mut client) = proxied().await;
    proxy.set(Behavior::both(Flow::swallow()));
    proxy.set(Behavior::default());
    says_back(&mut client, b"still here").await;
}

#[tokio::test]
async fn what_is_held_back_arrives_later_and_in_order() {
    let (proxy, mut client) = proxied().await;
    proxy.set(Behavior::one_way(Direction::ToClient, Flow::hold()));
    client.write_all(b"one ").await.unwrap();
    is_silent(&mut client).await;
    client.write_all(b"two").await.unwrap();
    proxy.set(Behavior::default());
    assert_eq!(read(&mut client, 7).await, b"one two");
}

#[tokio::test]
async fn a_reset_in_mid_frame_lets_just_so_many_bytes_through() {
    let (proxy, mut client) = proxied().await;
    proxy.set(Behavior::one_way(Direction::ToClient, Flow::reset_after(7)));
    client.write_all(b"a frame").await.unwrap();
    assert_eq!(read(&mut client, 7).await, b"a frame");
    is_reset(&mut client).await;
    assert_eq!(proxy.stats().resets, 1);

    let (proxy, mut client) = proxied().await;
    proxy.set(Behavior::one_way(Direction::ToServer, Flow::reset_after(4)));
    let before = proxy.passed(Direction::ToServer);
    client.write_all(b"a frame").await.unwrap();
    let mut found = Vec::new();
    let error = timeout(DEADLINE, client.read_to_end(&mut found))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.passed(Direction::ToServer), before + 4);
}

#[tokio::test]
async fn a_delay_costs_time_but_neither_order_nor_throughput() {
    const DELAY: Duration = Duration::from_millis(300);
    let (proxy, mut client) = proxied().await;
    proxy.set(Behavior::one_way(
        Direction::ToServer,
        Flow::late(DELAY, Duration::from_millis(100)),
    ));
    let started = Instant::now();
    let mut sent = Vec::new();
    for number in 0..50_u8 {
        client.write_all(&[number]).await.unwrap();
        sent.push(number);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(read(&mut client, 50).await, sent);
    let took = started.elapsed();
    assert!(took >= DELAY, "{took:?}");
    assert!(proxy.stats().delayed > 0);
    assert!(
        took < DELAY * 10,
        "50 pieces were under way one after the other: {took:?}"
    );
}

#[tokio::test]
async fn one_byte_slices_arrive_one_by_one_and_whole() {
    let (proxy, mut client) = proxied().await;
    proxy.set(Behavior::both(Flow::one_byte_slices()));
    let words = vec![b'x'; 2_000];
    client.write_all(&words).await.unwrap();
    let (mut found, mut reads, mut buffer) = (0, 0, [0; 4_096]);
    while found < words.len() {
        found += timeout(DEADLINE, client.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        reads += 1;
    }
    assert!(reads > 20, "{found} bytes in {reads} reads");
    // Each byte there and back; the last one is counted once it is written.
    assert!(proxy.stats().slices > 3_990);
}

#[tokio::test]
async fn a_narrow_line_takes_its_time() {
    let (proxy, mut client) = proxied().await;
    let rate = NonZeroU32::new(100_000).unwrap();
    proxy.set(Behavior::one_way(Direction::ToServer, Flow::slow(rate)));
    let started = Instant::now();
    says_back(&mut client, &[b'x'; 50_000]).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(400), "{took:?}");
}

#[tokio::test]
async fn a_closed_door_refuses_new_connections_and_leaves_the_open_ones() {
    let (proxy, mut client) = proxied().await;
    proxy.refuse().await.unwrap();
    let error = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    says_back(&mut client, b"still here").await;
    proxy.accept().await.unwrap();
    let mut second = TcpStream::connect(proxy.address()).await.unwrap();
    says_back(&mut second, b"here again").await;
}

#[tokio::test]
async fn one_connection_suffers_and_the_other_does_not() {
    let (proxy, mut first) = proxied().await;
    let mut second = TcpStream::connect(proxy.address()).await.unwrap();
    says_back(&mut second, b"hello").await;
    let [one, _] = proxy.connections().try_into().unwrap();
    assert_eq!(one.client(), first.local_addr().unwrap());
    one.set(Behavior::both(Flow::hold()));
    first.write_all(b"?").await.unwrap();
    is_silent(&mut first).await;
    says_back(&mut second, b"fine").await;
    one.reset();
    is_reset(&mut first).await;
    says_back(&mut second, b"fine").await;
    assert_eq!(proxy.connections().len(), 1);
}

#[tokio::test]
async fn later_connections_go_where_the_server_is_now() {
    let (proxy, mut old) = proxied().await;
    proxy.retarget(echo(b"new").await);
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(read(&mut new, 3).await, b"new");
    says_back(&mut old, b"as before").await;
}

#[tokio::test]
async fn a_server_that_is_gone_shows_as_a_reset() {
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let proxy = Proxy::start(gone).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    is_reset(&mut client).await;
}
