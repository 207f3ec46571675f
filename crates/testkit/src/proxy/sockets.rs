//! The TCP connections of a process, from `/proc`.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// Fields of a line of `/proc/<pid>/net/tcp`.
const LOCAL: usize = 1;
const REMOTE: usize = 2;

/// Returns the remote addresses of a process's established IPv4 connections, to check that nothing bypasses a proxy.
pub fn remote_addresses(pid: u32) -> io::Result<Vec<SocketAddr>> {
    addresses(pid, REMOTE)
}

/// Returns the local addresses of these connections, which identify a proxy's client.
pub fn local_addresses(pid: u32) -> io::Result<Vec<SocketAddr>> {
    addresses(pid, LOCAL)
}

fn addresses(pid: u32, field: usize) -> io::Result<Vec<SocketAddr>> {
    let process = Path::new("/proc").join(pid.to_string());
    let mut inodes = BTreeSet::new();
    for descriptor in std::fs::read_dir(process.join("fd"))? {
        // A descriptor may be closed while they are listed.
        if let Ok(target) = std::fs::read_link(descriptor?.path())
            && let Some(inode) = target.to_string_lossy().strip_prefix("socket:[")
        {
            inodes.insert(inode.trim_end_matches(']').to_owned());
        }
    }
    let table = std::fs::read_to_string(process.join("net").join("tcp"))?;
    let lines = table.lines().skip(1);
    Ok(lines
        .filter_map(|line| established(line, field, &inodes))
        .collect())
}

/// Parses an address of an established connection whose socket is one of `inodes`.
fn established(line: &str, field: usize, inodes: &BTreeSet<String>) -> Option<SocketAddr> {
    const ESTABLISHED: &str = "01";
    let fields: Vec<_> = line.split_whitespace().collect();
    if *fields.get(3)? != ESTABLISHED || !inodes.contains(*fields.get(9)?) {
        return None;
    }
    // `0100007F:1F90` is 127.0.0.1:8080: the IP in the machine's byte order, both in hexadecimal.
    let (ip, port) = fields[field].split_once(':')?;
    let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
    Some((ip, u16::from_str_radix(port, 16).ok()?).into())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_of_this_process_are_listed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(!remote_addresses(std::process::id()).unwrap().contains(&address));
        let connection = TcpStream::connect(address).unwrap();
        assert!(remote_addresses(std::process::id()).unwrap().contains(&address));
        let own = connection.local_addr().unwrap();
        assert!(local_addresses(std::process::id()).unwrap().contains(&own));
    }
}
