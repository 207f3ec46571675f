//! Default builds of the services contain no failpoint and no crash point.

use testkit::workspace;

#[test]
fn default_builds_contain_no_failpoint_names() {
    for service in ["ingester", "publisher", "streamer"] {
        let binary = std::fs::read(workspace::binary(service).unwrap()).unwrap();
        let text = String::from_utf8_lossy(&binary);
        for name in chaos::failpoint_names() {
            // Compiled-out code leaves no text, but a symbol may have the name of a crash point.
            let found = text.matches(name).count();
            assert_eq!(found, 0, "{service} contains {name}");
        }
    }
}
