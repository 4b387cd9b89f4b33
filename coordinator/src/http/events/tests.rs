//! How a reader of events begins, resumes and is told that it missed some.

use tokio::sync::broadcast;

use super::*;

fn event(seq: u64) -> Arc<Event> {
    let (node, image) = (Some("viz001".to_owned()), Some("a\nb.sif".to_owned()));
    let time = "2026-11-21T10:00:00.000Z".to_owned();
    Arc::new(Event { seq, time, kind: EventKind::ImageReady, node, image, digest: None, detail: None })
}

fn ear(events: Receiver<Arc<Event>>, last: Option<u64>) -> Ear {
    Ear { events, clock: Clock::start(), process: 0xbeef, last }
}

fn ids(text: &str) -> Vec<(String, String)> {
    let line = |block: &str, name| block.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    text.split_terminator("\n\n").map(|block| (line(block, "id: "), line(block, "event: "))).collect()
}

#[tokio::test]
async fn an_event_is_three_lines_whatever_it_holds() {
    let (sender, events) = broadcast::channel(4);
    sender.send(event(7)).unwrap();
    let text = ear(events, None).hear().await.unwrap();
    let data = r#"{"seq":7,"time":"2026-11-21T10:00:00.000Z","kind":"image_ready","node":"viz001","image":"a\nb.sif","digest":null,"detail":null}"#;
    assert_eq!(text, format!("id: 0000beef-7\nevent: image_ready\ndata: {data}\n\n"));
}

#[tokio::test]
async fn a_reader_that_was_too_slow_is_told_so_and_goes_on() {
    let (sender, events) = broadcast::channel(4);
    let mut ear = ear(events, None);
    for seq in 1..=10 {
        sender.send(event(seq)).unwrap();
    }
    let missed = ear.hear().await.unwrap();
    assert_eq!(ids(&missed).first().unwrap().1, "missed");
    assert!(missed.contains("6 events were missed: read the lists again"), "{missed}");
    let told: Vec<_> = ids(&missed).into_iter().skip(1).map(|(id, _)| id).collect();
    assert_eq!(told, ["0000beef-7", "0000beef-8", "0000beef-9", "0000beef-10"]);
}

#[tokio::test]
async fn a_returning_reader_gets_what_follows_and_hears_of_gaps() {
    let (sender, events) = broadcast::channel(8);
    let mut ear = ear(events, Some(4));
    for seq in [4, 5, 6, 9] {
        sender.send(event(seq)).unwrap();
    }
    let text = ear.hear().await.unwrap();
    let told: Vec<_> = ids(&text).into_iter().map(|(id, kind)| format!("{id} {kind}")).collect();
    assert_eq!(
        told,
        ["0000beef-5 image_ready", "0000beef-6 image_ready", "0000beef-6 missed", "0000beef-9 image_ready"]
    );
}

#[test]
fn ids_of_another_life_are_not_taken_for_ours() {
    for (id, expected) in [
        ("0000beef-7", Seen::UpTo(7)),
        ("0000beee-7", Seen::SomethingElse),
        ("7", Seen::SomethingElse),
        ("0000beef-", Seen::SomethingElse),
        ("", Seen::SomethingElse),
    ] {
        assert_eq!(seen(id, 0xbeef), expected, "{id:?}");
    }
}
