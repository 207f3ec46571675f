//! The web page in a headless browser.

mod live_page_in_browser;
mod page_in_browser;
mod pipeline_in_browser;

use std::path::PathBuf;

use crate::support::browser::Browser;

const DESKTOP: (u32, u32) = (1280, 800);
const PHONE: (u32, u32) = (390, 844);

/// Asserts that axe finds no violation. `scripts/lib/prerequisites.sh` fetches it.
fn assert_accessible(browser: &mut Browser, state: &str) {
    let file = testkit::workspace::target_dir().unwrap().join("tools/axe.min.js");
    let axe = std::fs::read_to_string(&file).unwrap_or_else(|error| {
        panic!(
            "{}: {error}: run ensure_axe of scripts/lib/prerequisites.sh",
            file.display()
        )
    });
    if browser.value("typeof axe") == "undefined" {
        browser.value(&axe);
    }
    let violations = "axe.run().then(found => JSON.stringify(found.violations.map(it => \
                      [it.id, it.nodes.map(node => node.html + ': ' + node.failureSummary)])))";
    assert_eq!(browser.value(violations), "[]", "{state}");
}

fn screenshots() -> PathBuf {
    let folder = testkit::workspace::target_dir().unwrap().join("page");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
