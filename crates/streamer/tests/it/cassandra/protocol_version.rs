//! Nodes without version 5 of the native protocol, as before Cassandra 4.0. Cassandra 5 has no setting for that, and 3.11 does
//! not run on Java 17. So a listener refuses version 5 as 3.11 does, and forwards connections of other versions to a real node.

use std::io;
use std::net::SocketAddr;

use testkit::service::Service;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::support::test_env::{TestEnv, new_users};
use crate::support::traffic::wait_for_exit;

/// The response of Cassandra 3.11.
const REASON: &str =
    "Invalid or unsupported protocol version (5); supported versions are (3/v3, 4/v4, 5/v5-beta)";

/// Starts a node without version 5 in front of `node`. Returns its address.
async fn start_old_node(node: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, node));
        }
    });
    address
}

/// Serves one connection, whose first byte is its version.
async fn serve(mut client: TcpStream, node: SocketAddr) -> io::Result<()> {
    // Version, flags, stream id, opcode and the length of the body.
    let mut header = [0_u8; 9];
    client.peek(&mut header[..1]).await?;
    if header[0] < 5 {
        let mut server = TcpStream::connect(node).await?;
        return copy_bidirectional(&mut client, &mut server).await.map(drop);
    }
    client.read_exact(&mut header).await?;
    client.write_all(&refusal([header[2], header[3]])).await?;
    // A connection that is closed with unread bytes is reset, and the client may not read the refusal.
    client.read_to_end(&mut Vec::new()).await.map(drop)
}

/// Encodes the refusal in version 4.
fn refusal(stream_id: [u8; 2]) -> Vec<u8> {
    const RESPONSE: u8 = 0x84;
    const NO_FLAGS: u8 = 0;
    const ERROR: u8 = 0;
    const PROTOCOL_ERROR: u32 = 0x000A;
    let message = u16::try_from(REASON.len()).unwrap();
    let body = 4 + 2 + u32::from(message);
    let mut bytes = vec![RESPONSE, NO_FLAGS, stream_id[0], stream_id[1], ERROR];
    bytes.extend(body.to_be_bytes());
    bytes.extend(PROTOCOL_ERROR.to_be_bytes());
    bytes.extend(message.to_be_bytes());
    bytes.extend(REASON.bytes());
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_without_protocol_version_5_exit_78_with_reason() {
    let env = TestEnv::new("protocol_version", 1).await;
    let old = start_old_node(env.node()).await;
    let contact_points = "cassandra.contact_points";
    let options = env.options().set(contact_points, old.to_string());
    let (code, log) = wait_for_exit(&Service::start(&options).unwrap()).await;
    assert_eq!(code, Some(78), "{log}");
    let remedy = format!("cassandra is too old: {old}: does not speak version 5 of the native protocol");
    assert!(log.contains(&remedy) && log.contains(REASON), "{log}");

    // In a rolling upgrade, one node with the version is enough.
    let options = options.set(contact_points, format!("{old},{}", env.node()));
    let _streamer = env.start(&options).await;
    env.write(&new_users(5)).await;
    env.assert_nothing_lost_or_rejected().await;
}
