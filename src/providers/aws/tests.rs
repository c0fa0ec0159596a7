//! Every way to a role's keys, step by step.

use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderMap, Method};
use zeroize::Zeroizing;

use super::container::ContainerToken;
use super::*;
use crate::providers::Signable;
use crate::providers::grant::{Grant, GrantAnswer, GrantAsk, GrantStep};

/// A day in 2026.
const NOW: u64 = 1_772_600_767_000;
const KEYS: &str = r#"{"Code":"Success","AccessKeyId":"ASIA1","SecretAccessKey":"s","Token":"t","Expiration":"2026-03-04T06:06:07Z"}"#;

fn scope() -> AwsScope {
    AwsScope { region: "eu-west-1".into(), service: "bedrock" }
}

fn answer(status: u16, body: &str) -> GrantAnswer {
    GrantAnswer::wiping(status, HeaderMap::new(), Bytes::copy_from_slice(body.as_bytes()))
}

fn asked(step: GrantStep) -> GrantAsk {
    match step {
        GrantStep::Ask(ask) => *ask,
        GrantStep::Read(path) => panic!("would read {}", path.display()),
        GrantStep::Done(_) => panic!("is done"),
    }
}

/// That the keys sign with their token, and how long they live.
fn granted(step: GrantStep) -> u64 {
    let GrantStep::Done(granted) = step else { panic!("is not done") };
    let (mut headers, path) = (HeaderMap::new(), "/x".parse().unwrap());
    let (method, body) = (Method::POST, []);
    let request = Signable {
        method: &method,
        authority: "h",
        path_and_query: &path,
        headers: &mut headers,
        body: &body,
    };
    granted.signer.sign(request, NOW).unwrap();
    assert_eq!(headers["x-amz-security-token"], "t");
    assert!(headers["authorization"].to_str().unwrap().contains("ASIA1/20260304/eu-west-1/bedrock/"));
    granted.expires_ms - NOW
}

#[test]
fn a_container_asks_with_its_token() {
    let plain = Container::new(scope(), "/v2/credentials/abc", None).unwrap();
    let ask = asked(plain.step(&[], NOW).unwrap());
    assert_eq!(
        (ask.origin.authority().as_str(), ask.path_and_query.as_str()),
        ("169.254.170.2", "/v2/credentials/abc")
    );
    assert!(ask.headers.is_empty());
    assert_eq!(granted(plain.step(&[answer(200, KEYS)], NOW).unwrap()), 3_600_000);

    let text = ContainerToken::Text(Zeroizing::new("secret".into()));
    let with_text = Container::new(scope(), "http://169.254.170.23/v1/credentials", Some(text)).unwrap();
    let ask = asked(with_text.step(&[], NOW).unwrap());
    assert!(ask.headers["authorization"] == "secret" && ask.headers["authorization"].is_sensitive());

    let file = ContainerToken::File(PathBuf::from("/token"));
    let with_file = Container::new(scope(), "http://169.254.170.23/v1/credentials", Some(file)).unwrap();
    assert!(
        matches!(with_file.step(&[], NOW).unwrap(), GrantStep::Read(path) if path == std::path::Path::new("/token"))
    );
    let ask = asked(with_file.step(&[answer(200, "fresh\n")], NOW).unwrap());
    assert_eq!(ask.headers["authorization"], "fresh");
    assert_eq!(granted(with_file.step(&[answer(200, "fresh"), answer(200, KEYS)], NOW).unwrap()), 3_600_000);
    assert!(Container::new(scope(), "http://example.com/x", None).is_err(), "keys stay near");
    assert_ne!(plain.identity(), with_text.identity());
}

#[test]
fn a_machine_begins_a_session_and_asks_for_its_role() {
    let machine = Machine::new(scope(), None).unwrap();
    let ask = asked(machine.step(&[], NOW).unwrap());
    assert_eq!((ask.method, ask.path_and_query.as_str()), (Method::PUT, "/latest/api/token"));
    assert_eq!(ask.headers["x-aws-ec2-metadata-token-ttl-seconds"], "300");
    let ask = asked(machine.step(&[answer(200, "session")], NOW).unwrap());
    assert_eq!(ask.headers["x-aws-ec2-metadata-token"], "session");
    let two = [answer(200, "session"), answer(200, "my-role\n")];
    let ask = asked(machine.step(&two, NOW).unwrap());
    assert_eq!(ask.path_and_query.as_str(), "/latest/meta-data/iam/security-credentials/my-role");
    let three = [answer(200, "session"), answer(200, "my-role"), answer(200, KEYS)];
    assert_eq!(granted(machine.step(&three, NOW).unwrap()), 3_600_000);
    for answers in [
        vec![answer(403, "")],
        vec![answer(200, "s"), answer(404, "")],
        vec![answer(200, "s"), answer(200, "r"), answer(200, "{}")],
    ] {
        assert!(machine.step(&answers, NOW).is_err());
    }
}

#[test]
fn a_web_identity_shows_the_token_of_its_file() {
    let role = "arn:aws:iam::123456789012:role/llm".to_owned();
    let identity = WebIdentity::new(scope(), role, "tollgate".into(), PathBuf::from("/token"), None).unwrap();
    assert!(matches!(identity.step(&[], NOW).unwrap(), GrantStep::Read(_)));
    let ask = asked(identity.step(&[answer(200, "ey.jwt\n")], NOW).unwrap());
    assert_eq!(ask.origin.authority(), "sts.eu-west-1.amazonaws.com");
    let form = String::from_utf8(ask.body.to_vec()).unwrap();
    for field in ["Action=AssumeRoleWithWebIdentity", "RoleArn=arn%3Aaws%3Aiam", "WebIdentityToken=ey.jwt"] {
        assert!(form.contains(field), "{form}");
    }
    let json = r#"{"AssumeRoleWithWebIdentityResponse":{"AssumeRoleWithWebIdentityResult":{"Credentials":
        {"AccessKeyId":"ASIA1","SecretAccessKey":"s","SessionToken":"t","Expiration":1.772604367E9}}}}"#;
    let xml = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA1</AccessKeyId>\
        <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2026-03-04T06:06:07Z</Expiration></Credentials>";
    for body in [json, xml] {
        assert_eq!(granted(identity.step(&[answer(200, "ey"), answer(200, body)], NOW).unwrap()), 3_600_000);
    }
    for (status, body, part) in [
        (
            400,
            r#"{"Error":{"Code":"ExpiredTokenException","Message":"Token expired"}}"#,
            "ExpiredTokenException: Token expired",
        ),
        (
            403,
            "<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not authorized</Message>",
            "AccessDenied: Not",
        ),
        (503, "", "status 503"),
        (200, "{}", "no keys"),
        (200, "<html>", "no keys"),
    ] {
        let fault = identity.step(&[answer(200, "ey"), answer(status, body)], NOW).err().unwrap();
        assert!(fault.message.contains(part), "{fault}");
    }
    assert!(identity.step(&[GrantAnswer::file(None)], NOW).is_err());
}
