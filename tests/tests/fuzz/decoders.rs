//! Decoders: what is read is what was written, and nothing but that.

use bolero::check;
use rekindle_coordinator::ledger::{CertIdentity, Entry, Ledger, OperatorOrder};
use rekindle_proto::admin::{AdminReply, AdminRequest, ORDER_BYTES_MAX};
use rekindle_proto::message::{Hello, MESSAGE_BYTES_MAX, Message, REQUEST_BYTES_MAX, Reply, Request, decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cluster::{first_ledger, record};
use super::{BYTES_MAX, Bruise, INPUTS, bruised};

/// What can be decoded can be encoded and means the same again.
fn reads<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8], bound: usize) -> bool {
    let Ok(value) = decode::<T>(bytes, bound) else { return false };
    let again = encode(&value, usize::MAX).expect("what was decoded can be encoded");
    assert_eq!(decode::<T>(&again, usize::MAX).expect("and decoded"), value);
    let longer = [bytes, &[0]].concat();
    assert!(decode::<T>(&longer, usize::MAX).is_err(), "a byte too many was overlooked");
    true
}

#[test]
fn rubbish_is_refused_by_every_decoder() {
    check!().with_iterations(INPUTS).with_max_len(BYTES_MAX).for_each(|bytes: &[u8]| {
        reads::<Message>(bytes, MESSAGE_BYTES_MAX);
        reads::<Hello>(bytes, MESSAGE_BYTES_MAX);
        reads::<Request>(bytes, REQUEST_BYTES_MAX);
        reads::<Reply>(bytes, REQUEST_BYTES_MAX);
        reads::<Entry>(bytes, REQUEST_BYTES_MAX);
        reads::<OperatorOrder>(bytes, ORDER_BYTES_MAX);
        reads::<Ledger>(bytes, REQUEST_BYTES_MAX);
    });
}

#[test]
fn damaged_messages_are_refused_or_mean_one_thing() {
    let samples = &record().messages;
    check!().with_iterations(INPUTS).with_type::<Bruise>().for_each(|bruise| {
        reads::<Message>(&bruised(samples, bruise), MESSAGE_BYTES_MAX);
    });
    for sample in samples {
        assert!(reads::<Message>(sample, MESSAGE_BYTES_MAX), "a true word was refused");
        assert!(!reads::<Message>(sample, sample.len() - 1), "the bound is not kept");
    }
}

#[test]
fn damaged_entries_are_refused_or_mean_one_thing() {
    let encoded = |entry: &Entry| encode(entry, usize::MAX).expect("encodes");
    let samples: Vec<Vec<u8>> = record().entries.iter().map(encoded).collect();
    check!().with_iterations(INPUTS).with_type::<Bruise>().for_each(|bruise| {
        reads::<Entry>(&bruised(&samples, bruise), REQUEST_BYTES_MAX);
    });
    assert!(samples.iter().all(|sample| reads::<Entry>(sample, REQUEST_BYTES_MAX)), "a true entry was refused");
}

#[test]
fn a_damaged_snapshot_is_refused_or_means_one_thing() {
    let samples = [encode(&first_ledger(), usize::MAX).expect("encodes")];
    check!().with_iterations(INPUTS).with_type::<Bruise>().for_each(|bruise| {
        reads::<Ledger>(&bruised(&samples, bruise), REQUEST_BYTES_MAX);
    });
    assert!(reads::<Ledger>(&samples[0], REQUEST_BYTES_MAX));
}

/// The local socket speaks JSON, a line a word.
#[test]
fn lines_of_the_local_socket_are_refused_or_mean_one_thing() {
    let lines = [
        r#"{"ask":"status"}"#,
        r#"{"ask":"why","host":"cmp-1"}"#,
        r#"{"ask":"incident","id":7}"#,
        r#"{"ask":"fence-test","host":null}"#,
        r#"{"ask":"submit","order":{"certificate":[1,2],"order":[3],"signature":[4]}}"#,
        r#"{"reply":"committed","text":"done"}"#,
        r#"{"reply":"error","kind":"refused","text":"no"}"#,
    ];
    let samples: Vec<Vec<u8>> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
    check!().with_iterations(INPUTS).with_type::<Bruise>().for_each(|bruise| {
        let line = bruised(&samples, bruise);
        if let Ok(request) = serde_json::from_slice::<AdminRequest>(&line) {
            let again = serde_json::to_vec(&request).expect("encodes");
            assert_eq!(serde_json::from_slice::<AdminRequest>(&again).expect("decodes"), request);
        }
        if let Ok(reply) = serde_json::from_slice::<AdminReply>(&line) {
            let again = serde_json::to_vec(&reply).expect("encodes");
            assert_eq!(serde_json::from_slice::<AdminReply>(&again).expect("decodes"), reply);
        }
    });
    for sample in &samples[..5] {
        serde_json::from_slice::<AdminRequest>(sample).expect("a true request");
    }
}

#[test]
fn names_in_certificates_are_refused_or_read_back() {
    let samples = [b"rekindle://zrh1/member/cmp-1".to_vec(), b"rekindle://zrh1/operator/ann".to_vec()];
    let read = |bytes: &[u8]| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let Ok(identity) = CertIdentity::parse(text) else { return false };
        assert_eq!(identity.uri(), text, "read otherwise than written");
        true
    };
    check!().with_iterations(INPUTS).with_type::<Bruise>().for_each(|bruise| {
        read(&bruised(&samples, bruise));
    });
    assert!(samples.iter().all(|sample| read(sample)), "a true name was refused");
}
