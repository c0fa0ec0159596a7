//! The files with which it is run as a service: what stands in them is taken as it is.

use serde_yaml::Value;

use crate::gateway::{self, Printed};

fn checked(config: &str, policies: &[(String, String)]) -> Printed {
    let mut setup = gateway::setup("").file("tollgate.yaml", config);
    for (name, text) in policies {
        setup = setup.policy(name, text);
    }
    setup.run(&["check", "--without-secrets"])
}

#[test]
fn the_configuration_of_a_service_is_good() {
    let printed = checked(include_str!("../../deploy/tollgate.yaml"), &[]);
    assert_eq!((printed.code, &*printed.err), (Some(0), ""), "{printed:#?}");
}

#[test]
fn what_kubernetes_hands_to_the_gateway_is_good() {
    use serde::Deserialize as _;
    let all = serde_yaml::Deserializer::from_str(include_str!("../../deploy/kubernetes.yaml"));
    let all: Vec<Value> = all.map(|one| Value::deserialize(one).unwrap()).collect();
    let of_kind = |kind: &str| all.iter().filter(move |one| one["kind"] == kind).collect::<Vec<_>>();
    let files: Vec<(String, String)> = of_kind("ConfigMap")
        .into_iter()
        .filter_map(|map| map["data"].as_mapping())
        .flatten()
        .map(|(name, text)| (name.as_str().unwrap().into(), text.as_str().unwrap().into()))
        .collect();
    let (configs, policies): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|(name, _)| name == "tollgate.yaml");
    let config = configs[0].1.replace("/etc/tollgate/policies", "policies");
    let printed = checked(&config, &policies);
    assert_eq!((printed.code, &*printed.err), (Some(0), ""), "{printed:#?}");
    assert!(printed.out.contains("1 policies with 1 tests"), "{printed:#?}");

    // Who is stopped has the time that the configuration gives.
    let parsed: Value = serde_yaml::from_str(&config).unwrap();
    let seconds = |name: &str| parsed[name].as_str().unwrap().trim_end_matches('s').parse::<u64>().unwrap();
    let pod = &of_kind("StatefulSet")[0]["spec"]["template"]["spec"];
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace >= seconds("drain_delay") + seconds("drain") + 5, "{grace}");
    // Variables that the configuration names are in the secret.
    let secret = &of_kind("Secret")[0]["stringData"];
    for name in
        config.split("env:").skip(1).map(|rest| rest.split([' ', ',', '}', ']']).next().unwrap().trim())
    {
        assert!(secret[name].is_string(), "{name}");
    }
}
