//! The services that are built without being asked for deliberate bugs have none: they know not even their names.

use chaos::moment::{BUG, FOLDER, MOMENTS};
use chaos::prove::BUGS;
use testkit::workspace;

#[test]
fn no_service_of_the_default_build_knows_a_deliberate_bug_or_a_moment_to_die_at() {
    let names = BUGS
        .iter()
        .map(|bug| bug.name)
        .chain(MOMENTS.iter().map(|(moment, _)| *moment));
    let names: Vec<_> = names.chain([BUG, FOLDER]).collect();
    for service in ["ingester", "publisher", "streamer"] {
        let binary = std::fs::read(workspace::binary(service).unwrap()).unwrap();
        let text = String::from_utf8_lossy(&binary);
        for name in &names {
            // What is compiled out leaves no text behind, but a symbol may be called like a moment.
            let found = text.matches(name).count();
            assert_eq!(found, 0, "{service} knows {name}");
        }
    }
}
