//! The catalogue: one page of HTML that needs no script and nothing from elsewhere, and reads well aloud.

use crate::output::size as in_words;

/// One version of an image.
pub(super) struct Version<'a> {
    pub(super) tag: &'a str,
    pub(super) size: u64,
    pub(super) digest: &'a str,
    /// Where its bytes are.
    pub(super) url: String,
    /// Where its manifest is, from the page.
    pub(super) manifest: String,
}

/// One repository.
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    /// What is said of it; text by strangers.
    pub(super) text: Option<String>,
    pub(super) versions: Vec<Version<'a>>,
}

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="script-src 'none'; img-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'">
<title>Container images</title>
<style>
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; font-weight: 600; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8886; vertical-align: top; }
code, pre { font-family: ui-monospace, monospace; overflow-wrap: anywhere; }
pre { overflow-x: auto; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
</style>
</head>
<body>
<header>
<h1>Container images</h1>
</header>
"#;

const HOW: &str = r#"<section aria-labelledby="how">
<h2 id="how">How to get one</h2>
<p>With <code>HERE</code> as the address of this page's folder, the versions of an image, and then the image:</p>
<pre><code>curl -s HERE/NAME/tags/ | jq -r '.tags[]'
curl -sLo image.sif "$(curl -s HERE/NAME/manifests/TAG/ | jq -r '.layers[0].urls[0]')"</code></pre>
<p><code>sha256sum image.sif</code> shows the digest that the list shows.</p>
</section>
"#;

/// Writes the page.
pub(super) fn render(entries: &[Entry<'_>]) -> String {
    let mut page = HEAD.to_owned();
    if entries.is_empty() {
        page.push_str("<main>\n<p>There are no images.</p>\n</main>\n</body>\n</html>\n");
        return page;
    }
    page.push_str("<nav aria-label=\"Images\">\n<ul>\n");
    for entry in entries {
        page.push_str(&format!("<li><a href=\"#{0}\">{0}</a></li>\n", escape(entry.name)));
    }
    page.push_str("</ul>\n</nav>\n<main>\n");
    page.push_str(HOW);
    for entry in entries {
        section(&mut page, entry);
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn section(page: &mut String, entry: &Entry<'_>) {
    let name = escape(entry.name);
    page.push_str(&format!("<section aria-labelledby=\"{name}\">\n<h2 id=\"{name}\">{name}</h2>\n"));
    if let Some(text) = entry.text.as_ref().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        page.push_str(&format!("<p class=\"text\">{}</p>\n", escape(text)));
    }
    page.push_str(&format!("<table>\n<caption>Versions of {name}</caption>\n"));
    page.push_str("<thead><tr><th scope=\"col\">Tag</th><th scope=\"col\">Size</th><th scope=\"col\">Digest</th></tr></thead>\n<tbody>\n");
    for version in &entry.versions {
        let (tag, url, manifest) = (escape(version.tag), escape(&version.url), escape(&version.manifest));
        let (size, digest) = (escape(&in_words(version.size)), escape(version.digest));
        page.push_str(&format!(
            "<tr><th scope=\"row\"><a href=\"{url}\">{tag}</a></th><td>{size}</td><td><a href=\"{manifest}\"><code>{digest}</code></a></td></tr>\n"
        ));
    }
    page.push_str("</tbody>\n</table>\n</section>\n");
}

/// Makes any text harmless in HTML, between tags and within quotes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Nothing that a page shows, and some of it turns the direction of text around.
            sign if sign.is_control() && sign != '\n' => safe.push('\u{fffd}'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => safe.push('\u{fffd}'),
            sign => safe.push(sign),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Entry<'static> {
        let version = Version {
            tag: "v1",
            size: 1_085_440,
            digest: "sha256:00",
            url: "https://h/x?a&b".to_owned(),
            manifest: "a/manifests/v1/".to_owned(),
        };
        Entry { name: "a", text: Some(text.to_owned()), versions: vec![version] }
    }

    #[test]
    fn what_a_stranger_says_is_text() {
        let page = render(&[entry("<script>alert('x')</script>\u{202e}\u{1b}[31m")]);
        assert!(
            page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;\u{fffd}\u{fffd}[31m"),
            "{page}"
        );
        assert!(!page.contains("<script") && page.contains("href=\"https://h/x?a&amp;b\""));
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_has_its_landmarks() {
        let page = render(&[entry("")]);
        for part in
            ["<html lang=\"en\">", "<title>", "<main>", "<caption>", "scope=\"row\"", "script-src 'none'"]
        {
            assert!(page.contains(part), "{part}");
        }
        for part in ["src=", "<link", "@import", "url(", "class=\"text\""] {
            assert!(!page.contains(part) || part == "class=\"text\"" && !page.contains("<p class"), "{part}");
        }
        assert!(render(&[]).contains("There are no images"));
    }
}
