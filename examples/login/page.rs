//! The two pages.

use fastsession::{SessionId, Summary};

pub(crate) fn sign_in() -> String {
    page(
        r#"<h1>Sign in</h1>
<form method="post" action="/login">
  <label>Name <input name="name" required autofocus autocomplete="username" maxlength="64"></label>
  <button class="primary">Sign in</button>
</form>
<p class="quiet">Any name will do. Open this page in a second browser to see two devices.</p>"#,
    )
}

pub(crate) fn devices(
    user: &str,
    id: Option<SessionId>,
    label: Option<&str>,
    others: &[Summary],
) -> String {
    let mut rows = device(label, id, "This device", None);
    for other in others {
        let end = format!(
            r#"<form method="post" action="/end"><input type="hidden" name="id" value="{}"><button>End</button></form>"#,
            other.id
        );
        rows += &device(other.label.as_deref(), Some(other.id), "Signed in", Some(&end));
    }
    let end_others = if others.is_empty() {
        ""
    } else {
        r#"<form method="post" action="/end-others"><button id="end-others">End all others</button></form>"#
    };
    page(&format!(
        r#"<h1>Hello, {}</h1>
<p>You are signed in on {}:</p>
<ul>{rows}</ul>
<div class="actions">{end_others}
<form method="post" action="/logout"><button class="primary" id="logout">Sign out</button></form></div>"#,
        escape(user),
        if others.is_empty() {
            "one device".into()
        } else {
            format!("{} devices", others.len() + 1)
        },
    ))
}

fn device(label: Option<&str>, id: Option<SessionId>, state: &str, end: Option<&str>) -> String {
    let id = id.map(|id| format!("<code>{id:.8}</code>")).unwrap_or_default();
    format!(
        "<li><div><strong>{}</strong><br><span class=\"quiet\">{state} {id}</span></div>{}</li>",
        escape(label.unwrap_or("A device")),
        end.unwrap_or_default(),
    )
}

fn page(body: &str) -> String {
    format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Your devices</title>
<style>{STYLE}</style>
<main>{body}</main>
</html>
"#
    )
}

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --accent: #2563eb; }
body { font: 1.05rem/1.5 system-ui, sans-serif; margin: 0; }
main { max-width: 32rem; margin: 12vh auto; padding: 0 1.25rem; }
ul { list-style: none; padding: 0; border-top: 1px solid var(--line); }
li { display: flex; justify-content: space-between; align-items: center; gap: 1rem;
     padding: .75rem 0; border-bottom: 1px solid var(--line); }
label { display: block; margin-bottom: 1rem; }
input { font: inherit; display: block; width: 100%; box-sizing: border-box; padding: .5rem;
        border: 1px solid var(--line); border-radius: .4rem; }
button { font: inherit; padding: .45rem 1rem; border: 1px solid var(--line);
         border-radius: .4rem; background: none; cursor: pointer; }
button.primary { background: var(--accent); border-color: var(--accent); color: white; }
.actions { display: flex; justify-content: space-between; flex-direction: row-reverse; }
.quiet { opacity: .7; font-size: .9em; }
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
