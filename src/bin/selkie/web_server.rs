//! Serves the dashboard and the npm package's files over HTTP, on loopback unless told otherwise.
//!
//! * `/`: the dashboard (`www/dist`), a page in which the tab is a node;
//! * `/selkie/`: the npm package's files (`js/dist`), for pages that a user writes;
//! * `/api/node`: which network this is, and where a tab can join it ([`dialable`]).
//!
//! A page elsewhere on the web must not read what is served on a user's own machine. Other origins are kept out by
//! the browser, and DNS rebinding (a name of theirs that suddenly points to 127.0.0.1) by us: a request is
//! answered only if its `Host` is an IP address or `localhost`. With `--web-public` any name will do.
//! The content security policy lets the page run its own scripts and wasm and connect to any peer, and nothing
//! else. At most 256 connections are open at once, and none holds its place for nothing ([`connections`]).

mod connections;
mod dialable;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use anyhow::bail;
use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use selkie::{Config, Multiaddr, P2PNetworkManager};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_http::services::ServeDir;

use self::dialable::Page;
use crate::settings::{Chain, may_serve};

/// Addresses told to a page; it tries them in order.
const MAX_ADDRESSES: usize = 16;
/// Levels above the program in which its files are looked for: `target/debug/selkie`, `bin/selkie`.
const LEVELS: usize = 4;

const POLICY: &str = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; \
                      connect-src 'self' ws: wss: https:; img-src 'self' data:; object-src 'none'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const NOT_BUILT: &str = "The dashboard is not built. Build it with ./build.sh run, or name its folder by --www.\n\
                         The node runs all the same, and tells about itself at /api/node.\n";

/// Where the files are.
#[derive(clap::Args)]
#[command(next_help_heading = "Dashboard")]
pub(crate) struct Folders {
    /// The built dashboard [default: www/dist near the program or here]
    #[arg(long, value_name = "FOLDER")]
    www: Option<PathBuf>,
    /// The npm package's built files [default: js/dist near the program or here]
    #[arg(long, value_name = "FOLDER")]
    js: Option<PathBuf>,
}

/// What is served.
pub(crate) struct Site {
    www: Option<PathBuf>,
    js: Option<PathBuf>,
    chain: Chain,
    /// The nodes that a tab may join.
    nodes: Vec<P2PNetworkManager>,
    public: bool,
}

impl Site {
    pub(crate) fn new(
        folders: Folders,
        chain: Chain,
        nodes: Vec<P2PNetworkManager>,
        public: bool,
    ) -> Self {
        Self {
            www: folders.www.or_else(|| find("www/dist")),
            js: folders.js.or_else(|| find("js/dist")),
            chain,
            nodes,
            public,
        }
    }

    /// Whether there is a page at `/`.
    pub(crate) fn has_dashboard(&self) -> bool {
        self.www
            .as_ref()
            .is_some_and(|folder| folder.join("index.html").is_file())
    }

    /// The answer of `/api/node`: the network, where this page can join it, and the settings in which members
    /// should agree.
    fn node(&self, page: Page) -> Value {
        let Some(first) = self.nodes.first() else {
            return Value::Null;
        };
        let external = self.nodes.iter().flat_map(external_addresses).collect();
        let own = self.nodes.iter().flat_map(P2PNetworkManager::listeners);
        let mut bootstrap = page.may_dial(external, own.collect());
        bootstrap.truncate(MAX_ADDRESSES);
        json!({
            "network": self.chain.network(&first.config.chain),
            "bootstrap": bootstrap,
            "peer_id": first.local_peer_id.to_string(),
            "config": agreed(&first.config),
        })
    }
}

/// Settings in which members should agree: what the hello compares, how long things are remembered, and whatever must fit to
/// one of these (`Config::check`), since a guest has the defaults for the rest.
const AGREED: [&str; 26] = [
    "gossipsub_config/duplicate_cache_time",
    "gossipsub_config/max_transmit_size",
    "request_response_config/max_message_size",
    "request_response_config/max_connection_bytes",
    "request_response_config/max_bytes",
    "validation/max_unread_bytes",
    "validation/votes",
    "validation/blocks",
    "validation/transactions",
    "propagation/votes/max_item",
    "propagation/votes/max_log_bytes",
    "propagation/transactions/max_item",
    "propagation/transactions/max_log_bytes",
    "propagation/blocks/max_block_bytes",
    "propagation/blocks/max_held_bytes",
    "propagation/blocks/max_recent_bytes",
    "propagation/blocks/max_seen",
    "propagation/blocks/max_recent_blocks",
    "propagation/mempool/max_bytes",
    "propagation/mempool/max_seen",
    "propagation/mempool/max_age",
    "propagation/mempool/old_after",
    "propagation/reconcile/min_age",
    "propagation/coded/max_block_bytes",
    "propagation/coded/max_bytes",
    "propagation/coded/max_early_bytes",
];

/// Those, as a part of a configuration.
fn agreed(config: &Config) -> Value {
    let all = serde_json::to_value(&config.protocol).unwrap_or_default();
    let mut protocol = json!({});
    for path in AGREED {
        if let Some(value) = all.pointer(&format!("/{path}")) {
            let folders = path.split('/');
            *folders.fold(&mut protocol, |folder, name| &mut folder[name]) = value.clone();
        }
    }
    json!({ "protocol": protocol })
}

/// Looks for a folder or file of the project: above the program's own place, as it is or in `share/selkie`, and in
/// the working directory.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let program = std::env::current_exe().ok();
    let above = program
        .iter()
        .flat_map(|program| program.ancestors().skip(1).take(LEVELS));
    above
        .flat_map(|folder| [folder.join(name), folder.join("share/selkie").join(name)])
        .chain([PathBuf::from(name)])
        .find(|path| path.exists())
}

/// Opens the port.
///
/// # Errors
/// Where it is taken, or the address is not loopback and `public` is not set.
pub(crate) async fn bind(address: SocketAddr, public: bool) -> anyhow::Result<TcpListener> {
    if !may_serve(&address, public) {
        bail!(
            "others could reach {address}; serve on 127.0.0.1, or add --web-public (node.web_public) if that is meant"
        );
    }
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            bail!(
                "port {} is taken; give another one, or port 0 for any that is free",
                address.port()
            )
        }
        Err(error) => bail!("can't serve on {address}: {error}"),
    }
}

/// Serves in the background until the runtime ends; returns the page's address.
///
/// # Errors
/// Where the system doesn't tell the address.
pub(crate) fn serve(listener: TcpListener, site: Site) -> io::Result<String> {
    let url = format!("http://{}/", listener.local_addr()?);
    if !site.has_dashboard() {
        crate::output::remark(NOT_BUILT.trim_end());
    }
    tokio::spawn(connections::serve(listener, router(site)));
    Ok(url)
}

fn router(site: Site) -> Router {
    let site = Arc::new(site);
    let api = |State(site): State<Arc<Site>>, headers: HeaderMap| async move {
        Json(site.node(Page::of(&headers)))
    };
    let mut router = Router::new().route("/api/node", get(api));
    if let Some(js) = &site.js {
        router = router.nest_service("/selkie", ServeDir::new(js));
    }
    router = match &site.www {
        Some(www) if site.has_dashboard() => router.fallback_service(ServeDir::new(www)),
        _ => router.fallback(|| async { (StatusCode::NOT_FOUND, NOT_BUILT) }),
    };
    router
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guard))
        .with_state(site)
}

/// Turns away requests for other hosts, and sets the headers of every answer.
async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let caching = caching(request.uri().path());
    let mut response = if site.public || is_here(request.headers()) {
        next.run(request).await
    } else {
        let text = "This server answers at its IP address or at localhost only.\n";
        (StatusCode::MISDIRECTED_REQUEST, text).into_response()
    };
    let caching = if response.status().is_client_error() {
        "no-store"
    } else {
        caching
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, caching),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Vite names what it puts into `assets` by its content; all else is asked for again each time, and
/// answered by "not modified" where it is not.
fn caching(path: &str) -> &'static str {
    if path.starts_with("/assets/") {
        "public, max-age=31536000, immutable"
    } else if path.starts_with("/api/") {
        "no-store"
    } else {
        "no-cache"
    }
}

/// Whether `Host` is an IP address or `localhost`: no name that somebody else could point here.
fn is_here(headers: &HeaderMap) -> bool {
    let Some(host) = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
    else {
        return false;
    };
    if host.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost") || bare.unwrap_or(name).parse::<IpAddr>().is_ok()
}

/// Where others reach a node, as its user says; with its identity at the end.
fn external_addresses(node: &P2PNetworkManager) -> impl Iterator<Item = Multiaddr> {
    let addresses = node.config.network.external_addresses.iter().cloned();
    addresses.filter_map(|address| address.with_p2p(node.local_peer_id).ok())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Lays one tree of settings over another.
    fn lay(over: &Value, under: &mut Value) {
        match over {
            Value::Object(fields) => {
                for (name, value) in fields {
                    lay(value, &mut under[name]);
                }
            }
            value => *under = value.clone(),
        }
    }

    #[test]
    fn a_guest_that_takes_what_it_is_told_fits() {
        let changes: [fn(&mut Config); 5] = [
            |config| config.protocol.propagation.votes.max_item = 128 << 10,
            |config| config.protocol.propagation.blocks.max_block_bytes = 1 << 20,
            |config| config.protocol.propagation.transactions.max_item = 1 << 20,
            |config| config.protocol.request_response_config.max_message_size = 6 << 20,
            |config| {
                config.protocol.propagation.mempool.max_age = Duration::from_secs(2);
                config.protocol.propagation.reconcile.min_age = Duration::from_secs(1);
            },
        ];
        for change in changes {
            let mut host = Config::default();
            change(&mut host);
            host.check().expect("it is right");
            let mut guest = serde_json::to_value(Config::default()).expect("it is data");
            for path in AGREED {
                let known = guest.pointer(&format!("/protocol/{path}"));
                assert!(known.is_some(), "{path}");
            }
            lay(&agreed(&host), &mut guest);
            let guest: Config = serde_json::from_value(guest).expect("it is a configuration");
            guest.check().expect("what belongs together came together");
            // Of the changed fields none has its default in the guest.
            assert_eq!(guest, host);
        }
    }
}
