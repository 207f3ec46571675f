//! Drives a headless Chromium by the DevTools protocol over pipes. Calls block.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::TIMEOUT;

/// Seconds after which a browser is killed, so that it cannot hang the tests.
const MAX_SECONDS: &str = "240";
/// Redirects the protocol's file descriptors 3 and 4 to the pipes of standard input and output.
const LAUNCH: &str = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
    // Prevents requests other than those of the page.
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// Checks that a program is installed, or returns a remedy.
fn check_installed(program: &str) -> Result<(), String> {
    let version = Command::new(program)
        .arg("--version")
        .stderr(Stdio::null())
        .output();
    match version {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(format!(
            "{program} is not installed, so the page can't be tested: install it, or skip these tests with \
             `-- --skip in_browser`; the result counts them as filtered out"
        )),
        Err(error) => Err(format!("{program}: {error}")),
        Ok(_) => Ok(()),
    }
}

pub(crate) struct Browser {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    calls: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser with an empty tab.
    ///
    /// # Panics
    /// When Chromium is not installed: an untested page must not count as passed.
    pub(crate) fn start() -> Self {
        check_installed("chromium").unwrap_or_else(|missing| panic!("{missing}"));
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("timeout")
            .args(["--kill-after=5", MAX_SECONDS, "sh", "-c", LAUNCH, "chromium"])
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut browser = Self {
            to: child.stdin.take(),
            from: BufReader::new(child.stdout.take().unwrap()),
            child,
            session: None,
            calls: 0,
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let tab = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &tab);
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        browser
    }

    /// Sends a command and returns its result.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        self.calls += 1;
        let mut command = json!({"id": self.calls, "method": method, "params": params});
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        let to = self.to.as_mut().unwrap();
        to.write_all(format!("{command}\0").as_bytes()).unwrap();
        to.flush().unwrap();
        loop {
            let mut message = Vec::new();
            self.from.read_until(0, &mut message).unwrap();
            assert_eq!(
                message.pop(),
                Some(0),
                "the browser exited before it responded to {method}"
            );
            let message: Value = serde_json::from_slice(&message).unwrap();
            // Everything else is an event.
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
        }
    }

    /// Opens `url` in a window of the given size and colour scheme.
    pub(crate) fn show(&mut self, url: &str, (width, height): (u32, u32), scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &scheme);
        self.call("Page.navigate", &json!({"url": url}));
    }

    /// Evaluates a JavaScript expression on the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let result = self.call("Runtime.evaluate", &parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub(crate) fn until(&mut self, expression: &str) {
        let until = Instant::now() + TIMEOUT;
        // While a page loads, the names that it defines are unknown.
        let guarded = format!("(() => {{ try {{ return !!({expression}); }} catch {{ return false; }} }})()");
        while self.value(&guarded) != true {
            let text = "document.documentElement.outerHTML";
            assert!(Instant::now() < until, "{expression}: {}", self.value(text));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses and releases a key.
    pub(crate) fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            other => panic!("no such key: {other}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Types into the focused element.
    pub(crate) fn write(&mut self, text: &str) {
        self.call("Input.insertText", &json!({"text": text}));
    }

    /// Returns the accessibility tree: role, name and live region setting of each node.
    pub(crate) fn accessibility_nodes(&mut self) -> Vec<(String, String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", &json!({}));
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        let live = |node: &Value| {
            let properties = node["properties"].as_array().cloned().unwrap_or_default();
            let live = properties.iter().find(|property| property["name"] == "live");
            live.map(|live| text(&live["value"])).unwrap_or_default()
        };
        let nodes = tree["nodes"].as_array().unwrap().iter();
        let visible = nodes.filter(|node| node["ignored"] != true);
        visible
            .map(|node| (text(&node["role"]), text(&node["name"]), live(node)))
            .collect()
    }

    /// Writes a screenshot of the whole page, for review.
    pub(crate) fn screenshot(&mut self, file: &Path) {
        let screenshot = self.call(
            "Page.captureScreenshot",
            &json!({"format": "png", "captureBeyondViewport": true}),
        );
        let mut decode = Command::new("base64")
            .arg("-d")
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(file).unwrap())
            .spawn()
            .unwrap();
        let data = screenshot["data"].as_str().unwrap();
        decode.stdin.take().unwrap().write_all(data.as_bytes()).unwrap();
        assert!(decode.wait().unwrap().success());
    }
}

impl Drop for Browser {
    /// Closes the pipes, which ends the browser.
    fn drop(&mut self) {
        drop(self.to.take());
        let _ = self.child.wait();
    }
}

#[test]
fn missing_browser_fails_with_a_remedy() {
    let missing = check_installed("chromium-that-is-not-installed").unwrap_err();
    assert!(
        missing.contains("install it") && missing.contains("--skip in_browser"),
        "{missing}"
    );
    // Any installed program.
    assert_eq!(check_installed("sh"), Ok(()));
}
