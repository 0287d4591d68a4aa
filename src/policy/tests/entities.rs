//! Types and fields of entities: judged as what reads is, with a vocabulary of their own.

use super::*;
use crate::domain::decision::Verdict;

const ALL: &str = r#"@id("all") permit(principal, action, resource);"#;

fn shows(policies: &Policies, entity_type: &str, field: Option<&str>) -> bool {
    let judgement = policies.judge(&agent("x", &[]), &Tool::entity(entity_type, field), None, &FACTS);
    judgement.verdict == Verdict::Allow
}

#[test]
fn the_shipped_policies_show_them() {
    let policies = shipped(&[]);
    for field in [None, Some("email"), Some("a.b \"c\"")] {
        assert!(shows(&policies, "customer", field));
    }
    assert!(!shows(&world("", &[]), "customer", None), "nothing permits it");
}

#[test]
fn a_scope_names_types_and_fields() {
    let tools = [tool("toolgate:company_brain.query", Risk::Read)];
    let things =
        [("customer", None), ("customer", Some("email")), ("customer", Some("name")), ("invoice", Some("email"))];
    for (scope, hidden) in [
        ("action, resource", [true, true, true, true]),
        ("action in Toolgate::Action::\"read\", resource", [true, true, true, true]),
        ("action in Toolgate::Action::\"call\", resource is Toolgate::Entity", [true, true, true, true]),
        ("action == Toolgate::Action::\"read\", resource is Toolgate::Entity", [true, true, true, true]),
        (
            "action == Toolgate::Action::\"read\", resource == Toolgate::Entity::\"customer.email\"",
            [false, true, false, false],
        ),
        ("action, resource == Toolgate::Entity::\"customer\"", [true, false, false, false]),
        ("action, resource in Toolgate::Entity::\"customer\"", [true, true, true, false]),
        ("action, resource is Toolgate::Entity in Toolgate::Entity::\"customer\"", [true, true, true, false]),
        ("action, resource in Toolgate::Server::\"toolgate\"", [true, true, true, true]),
        ("action, resource in Toolgate::Server::\"customer\"", [false, false, false, false]),
        ("action in Toolgate::Action::\"write\", resource", [false, false, false, false]),
        ("action, resource is Toolgate::Tool", [false, false, false, false]),
        ("action, resource is Toolgate::Resource", [false, false, false, false]),
        ("action, resource == Toolgate::Resource::\"toolgate:customer\"", [false, false, false, false]),
    ] {
        let text = format!("{ALL} @id(\"no\") forbid(principal, {scope});");
        let (policies, report) = Policies::build(&bundle(&text), &tools, None);
        assert_eq!(lines(&report.faults), "", "{scope}");
        assert_eq!(things.map(|(of, field)| !shows(&policies, of, field)), hidden, "{scope}");
    }
    let (_, report) =
        Policies::build(&bundle("forbid(principal, action, resource == Toolgate::Entity::\"customer\");"), &[], None);
    assert!(report.warnings.is_empty(), "a type need not be known: {:?}", report.warnings);
    assert!(
        faults("forbid(principal, action == Toolgate::Action::\"read\", resource);").contains("it is a group"),
        "of tools it never matches"
    );
}

#[test]
fn a_condition_reads_type_and_field() {
    let policies = world(
        r#"@id("all") permit(principal, action, resource);
           @id("pii") forbid(principal, action, resource is Toolgate::Entity)
             when { resource has field && ["email", "phone"].contains(resource.field) }
             unless { principal in Toolgate::Role::"support" };
           @id("hr") forbid(principal, action, resource is Toolgate::Entity) when { resource.type like "hr_*" };
           @id("flags") forbid(principal, action, resource)
             unless { resource.read_only && !resource.destructive && resource.server == "toolgate" };"#,
        &[],
    );
    assert!(shows(&policies, "customer", None) && shows(&policies, "customer", Some("name")));
    assert!(!shows(&policies, "customer", Some("phone")) && !shows(&policies, "hr_salary", None));
    let supporter = agent("x", &["support"]);
    let judgement = policies.judge(&supporter, &Tool::entity("customer", Some("email")), None, &FACTS);
    assert_eq!(told(&judgement), "allow: all; `all` permits `customer.email`");
    let (_, report) = Policies::build(
        &bundle("forbid(principal, action, resource is Toolgate::Entity) when { resource.fields == \"x\" };"),
        &[],
        None,
    );
    insta::assert_snapshot!(lines(&report.faults), @"p.cedar:1:64: attribute `fields` on entity type `Toolgate::Entity` not found (did you mean `field`?)");
}

#[test]
fn approval_and_errors_hide() {
    let policies = world(
        r#"@id("ask") @requires("approval") permit(principal, action, resource in Toolgate::Entity::"customer");
           @id("sum") permit(principal, action, resource in Toolgate::Entity::"invoice")
             when { 9223372036854775807 + 1 > 2 };"#,
        &[],
    );
    assert!(!shows(&policies, "customer", None) && !shows(&policies, "invoice", None));
}
