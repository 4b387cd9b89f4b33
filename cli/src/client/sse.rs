//! Reads server-sent events (HTML Living Standard §9.2) as far as the coordinator uses them.
//!
//! Only `data` is of interest: the body repeats identifier and kind. Every line and every event is bounded.

use std::io::{BufRead, Read};

use super::ClientError;

/// Largest event that is read, in bytes: a push to 10,000 nodes whose names do not fold takes a tenth.
const MAX_EVENT: usize = 1024 * 1024;

/// Gives the data of one event after the other.
pub(crate) struct EventStream {
    url: String,
    reader: Box<dyn BufRead>,
}

impl EventStream {
    pub(super) fn new(url: String, reader: Box<dyn BufRead>) -> Self {
        Self { url, reader }
    }

    /// Waits for the next event and returns its data.
    ///
    /// # Errors
    /// [`ClientError::Ended`] when the stream is over or broken.
    pub(crate) fn next(&mut self) -> Result<String, ClientError> {
        let mut data: Option<String> = None;
        let mut line = Vec::new();
        loop {
            line.clear();
            let limit = u64::try_from(MAX_EVENT).unwrap_or(u64::MAX);
            let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut line);
            match read {
                Err(source) => return Err(self.ended(Some(source))),
                Ok(0) => return Err(self.ended(None)),
                Ok(_) => {}
            }
            if line.pop() != Some(b'\n') {
                return Err(self.ended(Some(std::io::Error::other("a line is longer than 1 MiB, or cut"))));
            }
            let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line));
            match (text.strip_prefix("data:"), data.as_mut()) {
                (Some(more), None) => data = Some(more.strip_prefix(' ').unwrap_or(more).to_owned()),
                (Some(more), Some(data)) if data.len() + more.len() < MAX_EVENT => {
                    data.push('\n');
                    data.push_str(more.strip_prefix(' ').unwrap_or(more));
                }
                (Some(_), Some(_)) => {
                    return Err(self.ended(Some(std::io::Error::other("an event is longer than 1 MiB"))));
                }
                (None, Some(_)) if text.is_empty() => return Ok(data.unwrap_or_default()),
                (None, _) => {}
            }
        }
    }

    fn ended(&self, source: Option<std::io::Error>) -> ClientError {
        ClientError::Ended { url: self.url.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(text: &'static str) -> EventStream {
        EventStream::new("http://x".into(), Box::new(text.as_bytes()))
    }

    #[test]
    fn events_come_one_by_one_until_the_stream_ends() {
        let mut events = stream(
            ": hello\n\nid: 1\nevent: a\ndata: {\"a\":\ndata: 1}\n\n:\n\r\nid: 2\r\ndata:{}\r\n\r\ndata: cut",
        );
        assert_eq!(events.next().unwrap(), "{\"a\":\n1}");
        assert_eq!(events.next().unwrap(), "{}");
        assert!(matches!(events.next(), Err(ClientError::Ended { source: Some(_), .. })));
        assert!(matches!(events.next(), Err(ClientError::Ended { source: None, .. })));
    }

    #[test]
    fn an_endless_event_is_not_read_into_memory() {
        let endless = Box::new(std::io::BufReader::new(std::io::repeat(b'x')));
        assert!(EventStream::new("http://x".into(), endless).next().is_err());
        let many: &'static str = "data: x\n".repeat(1_000_000).leak();
        assert!(stream(many).next().is_err());
    }
}
