//! The fake against the client that everybody has, ClusterLabs' `fence_redfish`: what it takes for a service is one.

use std::process::Stdio;

use rekindle_tests::fake::bmc::Power;
use rekindle_tests::fake::redfish::Redfish;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::rig::{DEADLINE, PASSWORD, Rig};

/// Its exit code, and all that it said; no code: it was killed, at [`DEADLINE`] by us.
pub(crate) async fn fence_redfish(fake: &Redfish, action: &str, password: &str) -> (Option<i32>, String) {
    let mut child = Command::new("/usr/sbin/fence_redfish")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("fence_redfish must be installed for this test: apt-get install fence-agents");
    let address = fake.address();
    let options = format!(
        "action={action}\nip={}\nipport={}\nusername=admin\npassword={password}\nssl_insecure=1\n",
        address.ip(),
        address.port()
    );
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(options.as_bytes()).await.expect("written");
    drop(stdin);
    let Ok(output) = timeout(DEADLINE, child.wait_with_output()).await else {
        return (None, format!("it had not ended after {} s", DEADLINE.as_secs()));
    };
    let output = output.expect("it ran");
    let said = [output.stdout, output.stderr].map(|part| String::from_utf8_lossy(&part).into_owned()).concat();
    (output.status.code(), said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fence_redfish_reads_and_switches_the_fake() {
    let rig = Rig::new().await;
    let (code, said) = fence_redfish(&rig.fake, "status", PASSWORD).await;
    assert!(code == Some(0) && said.contains("Status: ON"), "{code:?}: {said}");
    let (code, said) = fence_redfish(&rig.fake, "off", PASSWORD).await;
    assert_eq!((code, rig.fake.power()), (Some(0), Power::Off), "{said}");
    let (code, said) = fence_redfish(&rig.fake, "status", PASSWORD).await;
    assert!(code == Some(2) && said.contains("Status: OFF"), "{code:?}: {said}");
    let (code, said) = fence_redfish(&rig.fake, "on", PASSWORD).await;
    assert_eq!((code, rig.fake.power()), (Some(0), Power::On), "{said}");
    assert_eq!(rig.orders(), ["ForceOff", "On"]);
    let (code, said) = fence_redfish(&rig.fake, "off", "wrong horse").await;
    assert!(code.is_some_and(|code| code != 0) && rig.fake.power() == Power::On, "{code:?}: {said}");
}
