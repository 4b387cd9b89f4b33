//! The table of addresses that people write to get somewhere else.

#![cfg(test)]

use super::*;

fn rules(allow: &[&str]) -> Rules {
    Rules {
        allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
        own: vec!["8.8.8.0/24".parse().unwrap()],
    }
}

/// Whom a written address leads to, where that can be told without asking for a name.
fn literal(text: &str) -> Result<IpAddr, String> {
    let origin: Origin = text.parse().map_err(|error: BadOrigin| error.to_string())?;
    match origin.host() {
        Host::Ipv4(address) => Ok((*address).into()),
        Host::Ipv6(address) => Ok((*address).into()),
        Host::Domain(name) => Err(format!("a name: {name}")),
    }
}

#[test]
fn no_way_of_writing_an_address_leads_inside() {
    for text in [
        "http://127.0.0.1",
        "http://2130706433/",
        "http://0x7f000001",
        "http://0177.0.0.1",
        "http://0x7f.1",
        "http://127.1:8080",
        "http://0",
        "http://0.0.0.0",
        "http://[::1]",
        "http://[::]",
        "http://[::ffff:127.0.0.1]",
        "http://[::ffff:7f00:1]",
        "http://[::127.0.0.1]",
        "http://[64:ff9b::7f00:1]",
        "http://[64:ff9b:1::a00:1]",
        "http://[2002:7f00:1::]",
        "http://[2001:0:7f00:1::]",
        "http://[fe80::1]",
        "http://[fd00::1]",
        "http://[fec0::1]",
        "http://[ff02::1]",
        "http://169.254.169.254",
        "http://[fd00:ec2::254]",
        "http://10.0.0.1",
        "http://172.31.255.255",
        "http://192.168.1.1",
        "http://100.64.0.1",
        "http://198.18.0.1",
        "http://224.0.0.1",
        "http://255.255.255.255",
        "http://240.0.0.1",
        "http://127.0.0.1.",
        // Digits and dots of other scripts mean the plain ones.
        "http://１２７.０.０.１",
        "http://127。0。0。1",
        "http://①②⑦.0.0.1",
        // A network that this machine is in.
        "http://8.8.8.8",
    ] {
        let address = literal(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let refused = rules(&[]).judge(address).expect_err(text);
        assert_eq!(refused.address, address, "{text}");
    }
}

#[test]
fn what_is_no_plain_address_of_a_registry_is_not_read() {
    for (text, expected) in [
        ("http://registry.example@127.0.0.1/", BadOrigin::User),
        ("http://user:secret@registry.example", BadOrigin::User),
        ("http://@127.0.0.1", BadOrigin::User),
        ("file:///etc/passwd", BadOrigin::Scheme),
        ("gopher://127.0.0.1:70/", BadOrigin::Scheme),
        ("unix:/run/docker.sock", BadOrigin::Scheme),
        ("javascript:1", BadOrigin::Scheme),
        ("registry.example", BadOrigin::Unreadable),
        ("//registry.example", BadOrigin::Unreadable),
        ("http://", BadOrigin::Unreadable),
        ("http:127.0.0.1", BadOrigin::Unreadable),
        ("http:/127.0.0.1", BadOrigin::Unreadable),
        ("http:///127.0.0.1", BadOrigin::Unreadable),
        ("http://registry.example:0", BadOrigin::Unreadable),
        ("http://registry.example:99999", BadOrigin::Unreadable),
        ("http://registry.example\\@127.0.0.1", BadOrigin::Unreadable),
        ("http://registry.example\n.evil", BadOrigin::Unreadable),
        ("http://127.0.0.1%00.example", BadOrigin::Unreadable),
        ("http://[::1%25lo]", BadOrigin::Unreadable),
        ("http://registry.example/v2/", BadOrigin::Path),
        ("http://registry.example?x=1", BadOrigin::Path),
        ("http://registry.example#x", BadOrigin::Path),
    ] {
        assert_eq!(text.parse::<Origin>(), Err(expected), "{text}");
    }
    assert_eq!(format!("http://{}", "a".repeat(MAX_URL)).parse::<Origin>(), Err(BadOrigin::TooLong));
}

#[test]
fn an_address_has_one_form() {
    for (text, expected) in [
        ("HTTPS://Registry.Example:443/", "https://registry.example"),
        ("http://registry.example:80", "http://registry.example"),
        ("https://registry.example:5000", "https://registry.example:5000"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://[2606:4700::1111]:5000", "https://[2606:4700::1111]:5000"),
        ("https://registry%2Eexample", "https://registry.example"),
    ] {
        assert_eq!(text.parse::<Origin>().unwrap().to_string(), expected, "{text}");
    }
}

#[test]
fn a_setting_opens_networks_but_nothing_in_disguise() {
    let open = rules(&["10.0.0.0/8", "127.0.0.0/8", "fd00::/8", "8.8.8.0/24"]);
    for (address, may) in [
        ("10.1.2.3", true),
        ("127.0.0.1", true),
        ("fd00::1", true),
        ("8.8.8.8", true),
        ("192.168.1.1", false),
        ("::1", false),
        ("::ffff:10.1.2.3", false),
        ("64:ff9b::a01:203", false),
        ("2002:a01:203::", false),
        ("0.0.0.0", false),
        ("1.1.1.1", true),
        ("2606:4700::1111", true),
    ] {
        assert_eq!(open.judge(address.parse().unwrap()).is_ok(), may, "{address}");
    }
}

#[test]
fn a_name_with_one_forbidden_address_is_not_asked_at_all() {
    let (outside, inside) = ("1.1.1.1".parse().unwrap(), "127.0.0.1".parse().unwrap());
    assert!(rules(&[]).judge_all(&[outside]).is_ok());
    assert!(rules(&[]).judge_all(&[outside, inside]).is_err());
    assert!(rules(&[]).judge_all(&[inside, outside]).is_err());
}
