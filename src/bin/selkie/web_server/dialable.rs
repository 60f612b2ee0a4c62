//! Which of a node's addresses a page may dial: that depends on where it is from.
//!
//! A page that came over https opens no plain WebSocket but to its own machine, and one that came over http has WebTransport on its own machine alone.
//! One from afar reaches no loopback, and rarely a container's or a private network's addresses, where something else may stand
//! on its side. Browsers say where a page is from by `Referer`, to which the server's policy (`same-origin`) holds them; a proxy in between by
//! `X-Forwarded-Proto` and `Host`. Who tells no scheme, such as Node.js, is in no browser that forbids anything.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, Uri, header};
use selkie::{Multiaddr, peers::Scope};

/// Where a page is from, as far as it is said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Page {
    /// Whether it came over https.
    secure: Option<bool>,
    /// How far away its host is from what it may dial.
    scope: Option<Scope>,
}

impl Page {
    /// Where the page is from that asks so.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let said = |name: HeaderName| headers.get(name)?.to_str().ok();
        let referer = said(header::REFERER).and_then(|url| url.parse::<Uri>().ok());
        // Each proxy may add its own; the first is the browser's.
        let forwarded = said(HeaderName::from_static("x-forwarded-proto"))
            .and_then(|schemes| schemes.split(',').next())
            .map(str::trim);
        let scheme = referer.as_ref().and_then(Uri::scheme_str).or(forwarded);
        let host = said(header::HOST).and_then(|host| host.parse::<Uri>().ok());
        let from = referer.as_ref().or(host.as_ref());
        Self {
            secure: scheme.map(|scheme| scheme.eq_ignore_ascii_case("https")),
            scope: from.and_then(Uri::host).map(scope),
        }
    }

    /// What it may dial of these, in the order in which it should: what the nodes' users say is reached from outside, then what they listen at;
    /// of both first WebSocket, which every browser and Node.js has.
    pub(super) fn may_dial(self, external: Vec<Multiaddr>, own: Vec<Multiaddr>) -> Vec<String> {
        let is_for = |address: &Multiaddr| for_browsers(address) && self.opens(address);
        let external = external.into_iter().filter(is_for);
        let own: Vec<_> = own.into_iter().filter(is_for).collect();
        let reach = |address: &Multiaddr| Scope::of(address).unwrap_or(Scope::Public);
        // Behind a name that the page's own network alone knows stands a private network.
        let farthest = own.iter().map(reach).max().filter(|far| *far > Scope::Host);
        let needed = self
            .scope
            .unwrap_or(Scope::Host)
            .min(farthest.unwrap_or(Scope::Public));
        let own = own.iter().filter(|address| reach(address) >= needed);
        let mut told = websocket_first(external);
        for address in websocket_first(own.cloned()) {
            if !told.contains(&address) {
                told.push(address);
            }
        }
        told
    }

    /// Whether its browser lets it open such a connection.
    fn opens(self, address: &Multiaddr) -> bool {
        use libp2p::multiaddr::Protocol;
        let Some(secure) = self.secure else {
            return true;
        };
        let has = |wanted: fn(&Protocol<'_>) -> bool| address.iter().any(|part| wanted(&part));
        // What is on the browser's own machine is as good as https.
        let at_home = self.scope == Some(Scope::Host);
        let tls = has(|part| matches!(part, Protocol::Tls | Protocol::Wss(_)));
        if has(|part| matches!(part, Protocol::Ws(_))) && !tls {
            let loopback = Scope::of(address) == Some(Scope::Host);
            return !secure || (at_home && loopback);
        }
        !has(|part| matches!(part, Protocol::WebTransport)) || secure || at_home
    }
}

/// How far away a URL's host is. The unspecified address leads a browser to its own machine.
fn scope(host: &str) -> Scope {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Scope::Host,
        Ok(ip) => Scope::of_ip(ip).unwrap_or(Scope::Public),
        Err(_) => Scope::of_name(bare),
    }
}

fn websocket_first(addresses: impl Iterator<Item = Multiaddr>) -> Vec<String> {
    let (mut first, others): (Vec<_>, Vec<_>) = addresses
        .map(|address| address.to_string())
        .partition(|address| address.contains("/ws"));
    first.extend(others);
    first
}

/// Whether a browser can dial the address.
fn for_browsers(address: &Multiaddr) -> bool {
    use libp2p::multiaddr::Protocol;
    let has = |wanted: fn(&Protocol<'_>) -> bool| address.iter().any(|protocol| wanted(&protocol));
    let hash = has(|protocol| matches!(protocol, Protocol::Certhash(_)));
    let ip = has(|protocol| matches!(protocol, Protocol::Ip4(_) | Protocol::Ip6(_)));
    address.iter().any(|protocol| match protocol {
        Protocol::Ws(_) | Protocol::Wss(_) => true,
        Protocol::WebRTCDirect => hash,
        // A name may have a certificate that browsers know.
        Protocol::WebTransport => hash || !ip,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "certhash/uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g";

    fn page(said: &[(&'static str, &str)]) -> Page {
        let headers = said.iter().map(|(name, value)| {
            let value = value.parse().expect("a value");
            (HeaderName::from_static(name), value)
        });
        Page::of(&headers.collect())
    }

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        let parsed = texts.iter().map(|text| text.parse().expect("an address"));
        parsed.collect()
    }

    /// What a page may dial of a node in a container, behind a proxy with a certificate.
    fn told(page: Page) -> Vec<String> {
        let outer = [
            "/dns4/node.example.org/tcp/443/wss",
            "/ip4/198.51.100.7/tcp/80/ws",
        ];
        let direct = format!("/ip4/172.17.0.2/udp/9/webrtc-direct/{HASH}");
        let own = [
            "/ip4/127.0.0.1/tcp/1/ws",
            "/ip4/172.17.0.2/tcp/1/ws",
            "/ip4/172.17.0.2/tcp/2",
            &direct,
        ];
        page.may_dial(addresses(&outer), addresses(&own))
    }

    #[test]
    fn what_is_reached_from_outside_comes_first_and_ws_is_not_for_https() {
        let far = told(page(&[
            ("referer", "https://node.example.org/"),
            ("host", "127.0.0.1:1"),
        ]));
        assert_eq!(
            far,
            [
                "/dns4/node.example.org/tcp/443/wss",
                &format!("/ip4/172.17.0.2/udp/9/webrtc-direct/{HASH}"),
            ],
            "nothing of it lies farther away"
        );
        let by_proxy = [("x-forwarded-proto", "https"), ("host", "node.example.org")];
        assert_eq!(told(page(&by_proxy)), far);
        let by_proxies = [
            ("x-forwarded-proto", "https, http"),
            ("host", "node.example.org"),
        ];
        assert_eq!(told(page(&by_proxies)), far);
        let here = told(page(&[
            ("referer", "http://localhost:8080/"),
            ("host", "localhost:8080"),
        ]));
        assert_eq!(here.len(), 5, "all but TCP: {here:?}");
        assert_eq!(here[0], "/dns4/node.example.org/tcp/443/wss");
        for unspecified in ["http://0.0.0.0:8420/", "http://[::]:8420/"] {
            assert_eq!(told(page(&[("referer", unspecified)])), here);
        }
        let lan = told(page(&[("referer", "http://172.17.0.2:8080/x")]));
        assert_eq!(lan.len(), 4, "no loopback: {lan:?}");
    }

    #[test]
    fn from_afar_private_addresses_are_told_only_where_there_are_no_others() {
        let far = page(&[("host", "node.example.org")]);
        let both = addresses(&["/ip4/10.0.0.1/tcp/1/ws", "/ip4/8.8.8.8/tcp/1/ws"]);
        assert_eq!(
            far.may_dial(vec![], both.clone()),
            ["/ip4/8.8.8.8/tcp/1/ws"]
        );
        assert_eq!(far.may_dial(vec![], both[..1].to_vec()).len(), 1);
        let loopback = addresses(&["/ip4/127.0.0.1/tcp/1/ws"]);
        assert!(far.may_dial(vec![], loopback.clone()).is_empty());
        assert_eq!(
            Page::default().may_dial(loopback.clone(), loopback).len(),
            1,
            "each once"
        );
    }

    #[test]
    fn webtransport_is_for_pages_that_are_secure() {
        let address = format!("/ip4/192.168.0.2/udp/1/quic-v1/webtransport/{HASH}");
        let opens = |url| {
            !page(&[("referer", url)])
                .may_dial(vec![], addresses(&[&address]))
                .is_empty()
        };
        assert!(opens("https://node.example.org/") && opens("http://[::1]:1/"));
        assert!(!opens("http://192.168.0.2:1/"));
    }

    #[test]
    fn what_says_nothing_that_can_be_read_is_no_page() {
        for said in ["", "::", "https//x", "\u{7f}"] {
            let mut headers = HeaderMap::new();
            if let Ok(value) = said.parse() {
                headers.insert(header::REFERER, value);
            }
            let page = Page::of(&headers);
            assert_eq!(told(page).len(), 5, "{said}: {page:?}");
        }
    }

    #[test]
    fn an_address_without_the_hash_that_it_needs_is_not_told_to_browsers() {
        let told = |text: &str| for_browsers(&text.parse().expect("an address"));
        for text in [
            "/ip4/192.0.2.1/tcp/80/ws",
            "/dns/example.org/tcp/443/tls/ws",
            "/dns/example.org/udp/443/quic-v1/webtransport",
            &format!("/ip4/192.0.2.1/udp/9/webrtc-direct/{HASH}"),
            &format!("/ip6/2001:db8::1/udp/9/quic-v1/webtransport/{HASH}"),
        ] {
            assert!(told(text), "{text}");
        }
        for text in [
            "/ip4/192.0.2.1/tcp/80",
            "/ip4/192.0.2.1/udp/9/webrtc-direct",
            "/dns/example.org/udp/9/webrtc-direct",
            "/ip4/192.0.2.1/udp/9/quic-v1/webtransport",
        ] {
            assert!(!told(text), "{text}");
        }
    }
}
