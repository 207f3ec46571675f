//! The proxy between a client and an echo server.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use testkit::proxy::{Behavior, Direction, Flow, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Long enough on loopback to show that nothing arrives.
const SILENCE: Duration = Duration::from_millis(300);

/// Starts an echo server that sends `greeting` first.
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
    // Both sides of the proxy are connected after the first echo.
    assert_echo(&mut client, b"hello").await;
    (proxy, client)
}

async fn assert_echo(client: &mut TcpStream, words: &[u8]) {
    client.write_all(words).await.unwrap();
    assert_eq!(read(client, words.len()).await, words);
}

async fn read(client: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut found = vec![0; length];
    timeout(TIMEOUT, client.read_exact(&mut found))
        .await
        .unwrap()
        .unwrap();
    found
}

async fn assert_silent(client: &mut TcpStream) {
    let read = timeout(SILENCE, client.read_u8()).await;
    assert!(read.is_err(), "{read:?}");
}

async fn assert_reset(client: &mut TcpStream) {
    let error = timeout(TIMEOUT, client.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn forwarded_bytes_are_complete_and_end_of_stream_is_kept() {
    let (proxy, mut client) = proxied().await;
    let words: Vec<u8> = (0..2_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let (mut reads, mut writes) = client.split();
    let mut found = Vec::new();
    let send = async {
        writes.write_all(&words).await.unwrap();
        writes.shutdown().await.unwrap();
    };
    let (read, ()) = tokio::join!(timeout(TIMEOUT, reads.read_to_end(&mut found)), send);
    read.unwrap().unwrap();
    assert!(found == words, "{} of {} bytes", found.len(), words.len());
    let passed = u64::try_from(words.len() + 5).unwrap();
    assert_eq!(proxy.passed(Direction::ToServer), passed);
    assert_eq!(proxy.passed(Direction::ToClient), passed);
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn half_open_connection_assert_reset_when_the_behavior_changes() {
    for direction in [Direction::ToServer, Direction::ToClient] {
        let (proxy, mut client) = proxied().await;
        proxy.set(Behavior::one_way(direction, Flow::blackhole()));
        client.write_all(b"lost").await.unwrap();
        assert_silent(&mut client).await;
        assert_eq!(proxy.stats().dropped_bytes, 4);
        proxy.set(Behavior::default());
        assert_reset(&mut client).await;
    }
}

#[tokio::test]
async fn half_open_connection_without_loss_continues() {
    let (proxy, mut client) = proxied().await;
    proxy.set(Behavior::both(Flow::blackhole()));
    proxy.set(Behavior::default());
    assert_echo(&mut client, b"still here").await;
}

#[tokio::test]
async fn held_bytes_arrive_later_in_order() {
    let (proxy, mut client) = proxied().await;
    proxy.set(Behavior::one_way(Direction::ToClient, Flow::hold()));
    client.write_all(b"one ").await.unwrap();
    assert_silent(&mut client).await;
    client.write_all(b"two").await.unwrap();
    proxy.set(Behavior::default());
    assert_eq!(read(&mut client, 7).await, b"one two");
}

#[tokio::test]
async fn reset_in_mid_frame_forwards_the_given_number_of_bytes() {
    let (proxy, mut client) = proxied().await;
    proxy.set(Behavior::one_way(Direction::ToClient, Flow::reset_after(7)));
    client.write_all(b"a frame").await.unwrap();
    assert_eq!(read(&mut client, 7).await, b"a frame");
    assert_reset(&mut client).await;
    assert_eq!(proxy.stats().resets, 1);

    let (proxy, mut client) = proxied().await;
    proxy.set(Behavior::one_way(Direction::ToServer, Flow::reset_after(4)));
    let before = proxy.passed(Direction::ToServer);
    client.write_all(b"a frame").await.unwrap();
    let mut found = Vec::new();
    let error = timeout(TIMEOUT, client.read_to_end(&mut found))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.passed(Direction::ToServer), before + 4);
}

#[tokio::test]
async fn delay_keeps_order_and_throughput() {
    const DELAY: Duration = Duration::from_millis(300);
    let (proxy, mut client) = proxied().await;
    proxy.set(Behavior::one_way(
        Direction::ToServer,
        Flow::latency(DELAY, Duration::from_millis(100)),
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
        "50 chunks were delayed one after the other: {took:?}"
    );
}

#[tokio::test]
async fn one_byte_slices_arrive_one_by_one_and_complete() {
    let (proxy, mut client) = proxied().await;
    proxy.set(Behavior::both(Flow::one_byte_slices()));
    let words = vec![b'x'; 2_000];
    client.write_all(&words).await.unwrap();
    let (mut found, mut reads, mut buffer) = (0, 0, [0; 4_096]);
    while found < words.len() {
        found += timeout(TIMEOUT, client.read(&mut buffer)).await.unwrap().unwrap();
        reads += 1;
    }
    assert!(reads > 20, "{found} bytes in {reads} reads");
    // Each byte in both directions. The last one is counted after it is written.
    assert!(proxy.stats().slices > 3_990);
}

#[tokio::test]
async fn bandwidth_limit_slows_transfer() {
    let (proxy, mut client) = proxied().await;
    let rate = NonZeroU32::new(100_000).unwrap();
    proxy.set(Behavior::one_way(Direction::ToServer, Flow::bandwidth(rate)));
    let started = Instant::now();
    assert_echo(&mut client, &[b'x'; 50_000]).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(400), "{took:?}");
}

#[tokio::test]
async fn closed_listener_refuses_new_connections_and_keeps_open_ones() {
    let (proxy, mut client) = proxied().await;
    proxy.refuse().await.unwrap();
    let error = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_echo(&mut client, b"still here").await;
    proxy.accept().await.unwrap();
    let mut second = TcpStream::connect(proxy.address()).await.unwrap();
    assert_echo(&mut second, b"here again").await;
}

#[tokio::test]
async fn behavior_of_one_connection_leaves_others_alone() {
    let (proxy, mut first) = proxied().await;
    let mut second = TcpStream::connect(proxy.address()).await.unwrap();
    assert_echo(&mut second, b"hello").await;
    let [one, _] = proxy.connections().try_into().unwrap();
    assert_eq!(one.client(), first.local_addr().unwrap());
    one.set(Behavior::both(Flow::hold()));
    first.write_all(b"?").await.unwrap();
    assert_silent(&mut first).await;
    assert_echo(&mut second, b"fine").await;
    one.reset();
    assert_reset(&mut first).await;
    assert_echo(&mut second, b"fine").await;
    assert_eq!(proxy.connections().len(), 1);
}

#[tokio::test]
async fn new_connections_go_to_the_new_target() {
    let (proxy, mut old) = proxied().await;
    proxy.retarget(echo(b"new").await);
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(read(&mut new, 3).await, b"new");
    assert_echo(&mut old, b"as before").await;
}

#[tokio::test]
async fn unreachable_target_resets_the_client() {
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let proxy = Proxy::start(gone).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    assert_reset(&mut client).await;
}
