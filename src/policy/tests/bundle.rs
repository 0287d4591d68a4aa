//! Policy texts: what compiles, and what is said of the rest.

use super::*;

#[test]
fn the_shipped_policies_compile() {
    let bundle = Bundle::compile(&sources(&SHIPPED)).unwrap();
    let ids: Vec<&str> = bundle.policies().iter().map(|policy| &**policy.id()).collect();
    assert_eq!(ids, ["allow-write-to-writers", "block-sql-drop", "default-allow-read", "destructive-needs-approval"]);
    assert!(bundle.policies().iter().all(|policy| policy.reason().is_some()));
    assert!(bundle.policy("destructive-needs-approval").unwrap().requires_approval());
}

#[test]
fn policies_stand_in_file_order_whatever_order_they_come_in() {
    let one = sources(&[
        ("b.cedar", "permit(principal,action,resource);"),
        ("a.cedar", "\n@id(\"x\")permit(principal,action,resource); forbid(principal,action,resource);"),
    ]);
    let mut other = one.clone();
    other.reverse();
    let (one, other) = (Bundle::compile(&one).unwrap(), Bundle::compile(&other).unwrap());
    let told: Vec<_> = one.policies().iter().map(|policy| (&**policy.id(), policy.line())).collect();
    assert_eq!(told, [("x", 2), ("a.cedar#2", 2), ("b.cedar#1", 1)]);
    assert_eq!(one.version(), other.version());
    assert_eq!(one.version().len(), 12);
    assert_ne!(one.version(), bundle("permit(principal,action,resource);").version());
}

/// What others write beside the files takes nothing from them: neither an id nor the room.
#[test]
fn what_stands_beside_the_files_yields_to_them() {
    let any = |id: &str| format!("@id(\"{id}\") forbid(principal, action, resource);");
    let texts: Vec<String> =
        (0..4_200).map(|at| format!("// {}\n{}", "x".repeat(1_000), any(&format!("p{at}")))).collect();
    let more: Vec<PolicySource> = (0..)
        .zip(&texts)
        .map(|(at, text)| PolicySource { file: format!("api:p{at}").into(), text: text.as_str().into() })
        .collect();
    let files = sources(&[("z.cedar", &any("p7")), ("a.cedar", &any("mine"))]);
    let both = Bundle::compile_with(&files, &more).unwrap();
    assert_eq!(both.policies().len(), 4_202);
    assert_eq!(&**both.policy("p7").unwrap().file(), "z.cedar");
    assert_eq!(&**both.policy("api:p7").unwrap().file(), "api:p7", "both count");
    assert_eq!(both.policies()[0].id().as_ref(), "mine", "in file order");
    insta::assert_snapshot!(lines(both.renamed()), @"api:p7:2:1: the id `p7` is taken by the policy at z.cedar:1 (it counts as `api:p7`)");
    assert!(Bundle::compile(&more).is_err(), "as files they would be too many");
    let twice = Bundle::compile_with(&sources(&[("a.cedar", &any("x")), ("b.cedar", &any("x"))]), &[]);
    assert!(lines(&twice.unwrap_err()).contains("is taken"));
}

#[test]
fn every_fault_is_told_at_once() {
    let text = r#"
@id("one") permit(principal, action, resource) when { principal. };
@id("one") permit(principal, action, resource);
@id("one") permit(principal, action, resource);
@raeson("why") @mode("dry") permit(principal, action, resource);
@requires("approval") forbid(principal, action, resource);
@requires("two") permit(principal, action, resource);
@id("") permit(principal, action, resource);
@id("roles:x") permit(principal, action, resource);
permit(principal == ?principal, action, resource);
permit(principal in Role::"writer", action in Action::"read", resource);
permit(principal, action == Toolgate::Action::"read", resource);
permit(principal, action in Toolgate::Action::"reads", resource);
permit(principal, action == Toolgate::Action::"list_repos", resource);
permit(principal, action, resource)"#;
    insta::assert_snapshot!(faults(text), @r##"
    p.cedar:2:66: unexpected token `}` (expected identifier)
    p.cedar:4:1: the id `one` is taken by the policy at p.cedar:3 (give each policy an `@id` of its own)
    p.cedar:5:1: unknown annotation `@raeson` (did you mean `@reason`?)
    p.cedar:5:16: `@mode` knows `shadow`, not `dry` (write `@mode("shadow")`, or leave it out to enforce)
    p.cedar:6:1: `@requires("approval")` on a forbid (only a permit can wait for an approval)
    p.cedar:7:1: `@requires` knows `approval`, not `two` (write `@requires("approval")`)
    p.cedar:8:1: the id is empty
    p.cedar:9:1: ids that start with `roles:` belong to the gateway's own rules
    p.cedar:10:21: templates are not served: the policy has a slot (write the principal or the resource out in place of the slot)
    p.cedar:11:21: `Role::"writer"` lacks the namespace (write `Toolgate::Role::"writer"`)
    p.cedar:11:47: `Action::"read"` lacks the namespace (write `Toolgate::Action::"read"`)
    p.cedar:12:47: `action == Toolgate::Action::"read"` never matches a tool: it is a group (write `action in` for a group)
    p.cedar:13:47: no action or group is called `reads` (did you mean `read`?)
    p.cedar:14:47: no action or group is called `list_repos` (a tool is `server:tool`; the groups are `call`, `read`, `write` and `destructive`)
    p.cedar:15:36: unexpected end of input (expected `;` or identifier)
    "##);
}

#[test]
fn bounds_hold() {
    let long = format!("permit(principal, action, resource) when {{ {} }};", vec!["true"; 4000].join("&&"));
    assert_eq!(
        faults(&long),
        "p.cedar:1:1: a policy of 24044 bytes is too long: at most 16384 (split it into several policies)"
    );
    let busy = format!("permit(principal, action, resource) when {{ {} }};", vec!["true"; 600].join("&&"));
    assert_eq!(
        faults(&busy),
        "p.cedar:1:1: 1198 operators in one policy: at most 1000 (compare with a set, `[…].contains(…)`, or split it into several policies)"
    );
    let deep = format!("permit(principal, action, resource) when {{ {}true{} }};", "(".repeat(60), ")".repeat(60));
    assert_eq!(faults(&deep), "p.cedar:1:1: brackets nested 61 deep: at most 48");
}

#[test]
fn the_longest_hostile_policies_fit_a_small_stack() {
    let conditions = [
        vec!["1"; 990].join("+") + " == 1",
        vec!["true"; 490].join("&&"),
        vec!["true"; 490].join("||"),
        format!("context{}", ".a".repeat(990)),
        format!("principal has {}", vec!["a"; 990].join(".")),
        "if true then true else ".repeat(690) + "true",
        format!("{}true", "!(".repeat(46)) + &")".repeat(46),
        "!".repeat(990) + "true",
        "-".repeat(990) + "1 == 1",
        format!("{}true{}", "(".repeat(46), ")".repeat(46)),
        format!("{}1{} == 1", "[".repeat(46), "]".repeat(46)),
        "\u{0}".repeat(1000),
    ];
    for condition in conditions {
        let text = format!("permit(principal, action, resource) when {{ {condition} }};");
        let work = move || {
            drop(Bundle::compile(&sources(&[("p.cedar", &text)])).map(|bundle| {
                let tools = [tool("a:b", Risk::Read)];
                let policies = Policies::build(&Arc::new(bundle), &tools, None).0;
                assert!(!policies.judge(&agent("x", &[]), &tools[0], None, &FACTS).reason.is_empty());
            }))
        };
        std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap();
    }
}
