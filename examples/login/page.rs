//! The two pages.

use std::time::Duration;

use fastsession::{SessionId, Summary, Timestamp};

pub(crate) fn sign_in() -> String {
    page(
        "Sign in",
        r#"<h1>Sign in</h1>
<form method="post" action="/login">
  <label for="name">Name</label>
  <input id="name" name="name" required autofocus autocomplete="username" maxlength="64">
  <button class="primary wide">Sign in</button>
</form>
<p class="quiet">Any name will do. Open this page in a second browser to see two devices.</p>"#,
    )
}

pub(crate) fn devices(
    user: &str,
    id: Option<SessionId>,
    label: Option<&str>,
    others: &[Summary],
    now: Timestamp,
) -> String {
    let mut rows = device(label, id, "active now", true, "");
    for other in others {
        let end = format!(
            r#"<form method="post" action="/end"><input type="hidden" name="id" value="{}"><button>End</button></form>"#,
            other.id
        );
        let seen = seen(now.saturating_since(other.last_seen_at));
        rows += &device(other.label.as_deref(), Some(other.id), &seen, false, &end);
    }
    let elsewhere = if others.is_empty() {
        ""
    } else {
        r#"<form method="post" action="/end-others"><button id="end-others">End all others</button></form>
<form method="post" action="/logout-everywhere"><button id="logout-everywhere">Sign out everywhere</button></form>"#
    };
    let count = match others.len() {
        0 => "one device".into(),
        others => format!("{} devices", others + 1),
    };
    page(
        "Your devices",
        &format!(
            r#"<h1>Hello, {}</h1>
<p class="quiet">You are signed in on {count}.</p>
<ul>{rows}</ul>
<div class="actions">
<form method="post" action="/logout"><button class="primary" id="logout">Sign out</button></form>
{elsewhere}</div>
<script>{WAIT}</script>"#,
            escape(user),
        ),
    )
}

/// When there was activity: recorded every few minutes, so that it is no more exact than that.
fn seen(ago: Duration) -> String {
    let minutes = ago.as_secs() / 60;
    let (count, unit) = match minutes {
        0..=5 => return "active minutes ago".into(),
        6..=59 => (minutes, "minute"),
        60..=1439 => (minutes / 60, "hour"),
        _ => (minutes / 1440, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("active {count} {unit}{plural} ago")
}

fn device(
    label: Option<&str>,
    id: Option<SessionId>,
    seen: &str,
    is_this: bool,
    end: &str,
) -> String {
    let id = id.map(|id| format!("<code>{id:.8}</code>")).unwrap_or_default();
    let this = if is_this { r#" <span class="this">this device</span>"# } else { "" };
    let label = escape(label.unwrap_or("A device"));
    format!(
        "<li><div><strong>{label}</strong>{this}<br><span class=\"quiet\">{seen} · {id}</span></div>{end}</li>"
    )
}

fn page(title: &str, body: &str) -> String {
    format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{STYLE}</style>
<main>{body}</main>
</html>
"#
    )
}

/// Shows the page anew once the session has ended, whoever ended it.
const WAIT: &str = "
setInterval(async () => {
  const answer = await fetch('/signed-in').then(r => r.ok ? r.text() : '', () => '');
  if (answer === 'no') location.reload();
}, 1000);
";

const STYLE: &str = "
:root { color-scheme: light dark; --line: #d8dee6; --back: #f3f5f8; --card: #fff; --text: #1c2430;
        --quiet: #5b6675; --accent: #2257d6; --this: #e4ecfd; }
@media (prefers-color-scheme: dark) {
  :root { --line: #323b49; --back: #11151b; --card: #1a2029; --text: #e6eaf0; --quiet: #9aa6b6;
          --accent: #2f63e6; --this: #24365f; }
}
* { box-sizing: border-box; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0; color: var(--text); background: var(--back); }
main { max-width: 34rem; margin: min(12vh, 6rem) auto 2rem; padding: 2rem; background: var(--card);
       border: 1px solid var(--line); border-radius: .9rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
p { margin: .25rem 0 1rem; }
ul { list-style: none; padding: 0; margin: 1rem 0 1.5rem; border-top: 1px solid var(--line); }
li { display: flex; justify-content: space-between; align-items: center; gap: 1rem;
     padding: .8rem 0; border-bottom: 1px solid var(--line); }
li div { min-width: 0; overflow-wrap: anywhere; }
form { margin: 0; }
label { display: block; margin: 1.25rem 0 .35rem; font-weight: 600; }
input { font: inherit; width: 100%; padding: .6rem .75rem; margin-bottom: 1rem; color: inherit;
        background: var(--back); border: 1px solid var(--line); border-radius: .5rem; }
button { font: inherit; min-height: 2.5rem; padding: .4rem 1rem; color: inherit; cursor: pointer;
         background: none; border: 1px solid var(--line); border-radius: .5rem; }
button:hover { border-color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
button.primary { background: var(--accent); border-color: var(--accent); color: #fff; }
button.wide { width: 100%; margin-bottom: 1.25rem; }
li .quiet { font-size: .9rem; }
code { font-size: .85rem; }
.this { padding: .1rem .5rem; border-radius: 1rem; background: var(--this); font-size: .8rem;
        white-space: nowrap; }
.actions { display: flex; flex-wrap: wrap; gap: .6rem; }
.quiet { color: var(--quiet); }
@media (max-width: 36rem) {
  main { max-width: none; margin: 0; min-height: 100vh; border: 0; border-radius: 0; padding: 1.5rem 1.25rem; }
  .actions form, .actions button { width: 100%; }
}
";

/// Text as HTML: names and labels come from outside.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
