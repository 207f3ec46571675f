//! A headless Chromium, driven by its DevTools protocol over a pair of pipes. It knows no page. Its calls block.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A browser that hangs must not hang the tests; it is killed after so many seconds.
const LIFE: &str = "150";
const DEADLINE: Duration = Duration::from_secs(60);
/// The protocol's pipes are 3 and 4; they are ours before standard input and output are taken away.
const LAUNCH: &str = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
    // It is to ask for our page and for nothing else.
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// Whether a program is there; if not, what to do.
fn there_is(program: &str) -> Result<(), String> {
    let version = Command::new(program)
        .arg("--version")
        .stderr(Stdio::null())
        .output();
    match version {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(format!(
            "there is no {program}, so the page can't be looked at: install it, or leave these tests out by \
             `-- --skip in_a_browser`, which the result then counts as filtered out"
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
    /// A browser with one empty tab.
    ///
    /// # Panics
    /// Where there is no Chromium: a page that nobody looked at is no passed test.
    pub(crate) fn start() -> Self {
        there_is("chromium").unwrap_or_else(|missing| panic!("{missing}"));
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("timeout")
            .args(["--kill-after=5", LIFE, "sh", "-c", LAUNCH, "chromium"])
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

    /// One command and its result.
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
                "the browser ended before it answered {method}"
            );
            let message: Value = serde_json::from_slice(&message).unwrap();
            // Everything else is an event.
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
        }
    }

    /// Shows `url` in a window of this size, in a light or a dark one.
    pub(crate) fn show(&mut self, url: &str, (width, height): (u32, u32), scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &scheme);
        self.call("Page.navigate", &json!({"url": url}));
    }

    /// What an expression of JavaScript is worth on the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let result = self.call("Runtime.evaluate", &parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub(crate) fn until(&mut self, expression: &str) {
        let until = Instant::now() + DEADLINE;
        // While a page is being loaded, names that it is to define are unknown.
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

    /// Types where the focus is.
    pub(crate) fn write(&mut self, text: &str) {
        self.call("Input.insertText", &json!({"text": text}));
    }

    /// Every node that assistive technology is told of: role, name, and whether it is a live region.
    pub(crate) fn spoken(&mut self) -> Vec<(String, String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", &json!({}));
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        let live = |node: &Value| {
            let properties = node["properties"].as_array().cloned().unwrap_or_default();
            let live = properties.iter().find(|property| property["name"] == "live");
            live.map(|live| text(&live["value"])).unwrap_or_default()
        };
        let nodes = tree["nodes"].as_array().unwrap().iter();
        let heard = nodes.filter(|node| node["ignored"] != true);
        heard
            .map(|node| (text(&node["role"]), text(&node["name"]), live(node)))
            .collect()
    }

    /// The whole page as a picture, for people.
    pub(crate) fn picture(&mut self, file: &Path) {
        let picture = self.call(
            "Page.captureScreenshot",
            &json!({"format": "png", "captureBeyondViewport": true}),
        );
        let mut decode = Command::new("base64")
            .arg("-d")
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(file).unwrap())
            .spawn()
            .unwrap();
        let data = picture["data"].as_str().unwrap();
        decode.stdin.take().unwrap().write_all(data.as_bytes()).unwrap();
        assert!(decode.wait().unwrap().success());
    }
}

impl Drop for Browser {
    /// It ends when nobody drives it any more.
    fn drop(&mut self) {
        drop(self.to.take());
        let _ = self.child.wait();
    }
}

#[test]
fn without_a_browser_its_tests_fail_and_say_what_to_do() {
    let missing = there_is("chromium-that-is-not-there").unwrap_err();
    assert!(
        missing.contains("install it") && missing.contains("--skip in_a_browser"),
        "{missing}"
    );
    // Any program that is there.
    assert_eq!(there_is("sh"), Ok(()));
}
