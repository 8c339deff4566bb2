//! Notifications: a receiver that refuses, hangs, is unwell and then takes, a leader that dies meanwhile, readers of sockets.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use rekindle_proto::id::HostName;
use rekindle_proto::notification::Notification;
use rekindle_proto::status::Phase;
use rekindle_tests::harness::{Cluster, ClusterBuilder, Fault, Isolated};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::rig::{DEADLINE, armed, builder, bystander, eventually, patient, recovered};

const SECRET: &str = "not the site's, but long enough";

/// Another's HMAC: each line of its input is a post; it fails at the first whose signature is not the secret's.
const VERIFY: &str = r#"
import hashlib, hmac, json, sys
posts = [json.loads(line) for line in sys.stdin]
for post in posts:
    signed = post["timestamp"].encode() + b"." + post["body"].encode()
    want = "v1=" + hmac.new(sys.argv[1].encode(), signed, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(want, post["signature"]), post
print(len(posts))
"#;

/// One post that was answered, as it came.
#[derive(Debug, Clone)]
struct Post {
    id: String,
    timestamp: String,
    signature: String,
    body: String,
}

type Posts = Arc<Mutex<Vec<Post>>>;

fn with_notifications(
    builder: ClusterBuilder,
    changed: impl Fn(&HostName, &mut toml::Table) + Send + 'static,
) -> ClusterBuilder {
    builder.config(move |host, table| {
        let mut notifications = toml::Table::new();
        changed(host, &mut notifications);
        table.insert("notifications".to_owned(), notifications.into());
    })
}

/// The head and the body of one request.
async fn request(stream: &mut TcpStream) -> Result<Post> {
    let mut read = BufReader::new(stream);
    let mut head = std::collections::BTreeMap::new();
    let mut first = String::new();
    read.read_line(&mut first).await?;
    ensure!(first.starts_with("POST /rekindle?site=1 HTTP/1.1"), "{first}");
    loop {
        let mut line = String::new();
        read.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        head.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let header = |name: &str| head.get(name).cloned().with_context(|| format!("no {name} in {head:?}"));
    ensure!(header("content-type")? == "application/json");
    let mut body = vec![0; header("content-length")?.parse()?];
    read.read_exact(&mut body).await?;
    Ok(Post {
        id: header("x-rekindle-id")?,
        timestamp: header("x-rekindle-timestamp")?,
        signature: header("x-rekindle-signature")?,
        body: String::from_utf8(body)?,
    })
}

/// Hangs on the first post, has no room for the second, and takes all others.
async fn receive(listener: TcpListener, posts: Posts) -> Result<()> {
    let mut hung = Vec::new();
    for turn in 0.. {
        let (mut stream, _) = listener.accept().await?;
        let Ok(post) = request(&mut stream).await else { continue };
        match turn {
            0 => hung.push(stream),
            1 => stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await?,
            _ => {
                posts.lock().expect("whole").push(post);
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
            }
        }
    }
    Ok(())
}

fn verified_by_another(posts: &[Post]) -> Result<()> {
    let mut python = Command::new("python3")
        .args(["-c", VERIFY, SECRET])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("python3 is needed")?;
    let mut input = python.stdin.take().context("piped")?;
    for Post { timestamp, signature, body, .. } in posts {
        let line = serde_json::json!({"timestamp": timestamp, "signature": signature, "body": body});
        writeln!(input, "{line}")?;
    }
    drop(input);
    let said = python.wait_with_output()?;
    ensure!(said.status.success(), "a signature is wrong");
    ensure!(String::from_utf8(said.stdout)?.trim() == posts.len().to_string(), "not all were looked at");
    Ok(())
}

/// All changes of phase, in order and without gaps, and the last is the end.
fn whole(told: &[Notification]) -> Result<()> {
    let numbers: Vec<u32> = told.iter().map(|told| told.number).collect();
    let expected: Vec<u32> = (1..=u32::try_from(told.len())?).collect();
    ensure!(numbers == expected, "{numbers:?}");
    ensure!(told.windows(2).all(|pair| pair[0].phase == pair[1].from), "{told:#?}");
    ensure!(told.last().is_some_and(|last| last.phase == Phase::Recovered), "{numbers:?}");
    Ok(())
}

pub(crate) async fn a_receiver_that_was_down_is_told_all_also_by_the_next_leader(isolated: &Isolated) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let secret = dir.path().join("secret");
    fs::write(&secret, format!("{SECRET}\n"))?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    // Nobody listens there yet: whoever posts is refused.
    let address: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let builder = with_notifications(patient(), move |_, table| {
        table.insert("webhook".to_owned(), format!("http://{address}/rekindle?site=1").into());
        table.insert("webhook_secret_file".to_owned(), secret.display().to_string().into());
        table.insert("webhook_timeout".to_owned(), "1s".into());
    });
    armed(isolated, builder, async |cluster| {
        let first: HostName = cluster.leader(DEADLINE).await?;
        let victim = bystander(cluster)?;
        let servers = cluster.cloud().servers_of(victim.name());
        cluster.inflict(victim, Fault::Crash)?;
        recovered(cluster, victim.name(), &servers).await.context("no recovery waits for a webhook")?;
        cluster.host(first.as_str())?.kill()?;
        let posts = Posts::default();
        let receiver = tokio::spawn(receive(TcpListener::bind(address).await?, Arc::clone(&posts)));
        let told = eventually(|| {
            let posts = posts.lock().expect("whole").clone();
            let told: Vec<Notification> =
                posts.iter().map(|post| serde_json::from_str(&post.body)).collect::<Result<_, _>>()?;
            // The killed daemon's host is another incident: nobody starts it again.
            let told: Vec<Notification> = told.into_iter().filter(|told| told.host == *victim.name()).collect();
            whole(&told)?;
            Ok((posts, told))
        });
        let (posts, told) = told.await?;
        receiver.abort();
        ensure!(told.iter().all(|told| told.by != first), "{told:#?}");
        let ids: BTreeSet<&str> = posts.iter().map(|post| post.id.as_str()).collect();
        ensure!(ids.len() == posts.len() && told.iter().all(|told| ids.contains(told.id.as_str())), "{posts:#?}");
        verified_by_another(&posts)
    })
    .await
}

async fn read_to_the_end(stream: UnixStream) -> Result<Vec<Notification>> {
    let mut lines = BufReader::new(stream).lines();
    let mut told: Vec<Notification> = Vec::new();
    while told.last().is_none_or(|last| last.phase != Phase::Recovered) {
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await??.context("the socket was closed")?;
        told.push(serde_json::from_str(&line).with_context(|| line.clone())?);
    }
    whole(&told)?;
    Ok(told)
}

pub(crate) async fn every_voters_socket_tells_the_same(isolated: &Isolated) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().to_owned();
    let socket = move |host: &HostName| path.join(format!("{host}.sock"));
    let of = socket.clone();
    let builder = with_notifications(builder(), move |host, table| {
        table.insert("socket".to_owned(), of(host).display().to_string().into());
    });
    armed(isolated, builder, async |cluster: &Cluster| {
        let victim = bystander(cluster)?;
        let servers = cluster.cloud().servers_of(victim.name());
        let mut readers = Vec::new();
        for voter in cluster.voters() {
            readers.push((voter.clone(), UnixStream::connect(socket(voter)).await?));
        }
        cluster.inflict(victim, Fault::Crash)?;
        recovered(cluster, victim.name(), &servers).await?;
        let mut all = Vec::new();
        for (voter, reader) in readers {
            let told = read_to_the_end(reader).await.with_context(|| voter.to_string())?;
            ensure!(told.iter().all(|told| told.by == voter), "{told:#?}");
            all.push(
                told.into_iter().map(|told| Notification { by: victim.name().clone(), ..told }).collect::<Vec<_>>(),
            );
        }
        ensure!(all.len() == 3 && all.windows(2).all(|pair| pair[0] == pair[1]), "{all:#?}");
        Ok(())
    })
    .await
}
