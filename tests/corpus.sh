#!/bin/sh
# What is said of the text of a run: which file is at fault, where in it, and what to do.
. "$SRCDIR/tests/tap.sh"
quern=$BUILDDIR/quern
folder=$(mktemp -d "${TMPDIR:-/tmp}/quern-test-XXXXXX") || exit 1
cd "$folder" || exit 1
trap 'cd /; rm -rf "$folder"' EXIT

tiny='--quiet --layers 1 --heads 2 --width 16 --context 16 --batch 4 --steps 2'

# says MESSAGE WORDS...: `quern WORDS` fails with it.
says()
{
    message=$1
    shift
    status=0
    "$quern" "$@" >out.tmp 2>err.tmp || status=$?
    [ "$status" = 1 ] && grep -qF -e "$message" err.tmp && return
    echo "exit status $status, expected 1 and \"$message\" in:"
    cat err.tmp
    return 1
}
refuses()
{
    message=$1
    shift
    # shellcheck disable=SC2086
    says "$message" train gpt --out no $tiny "$@"
}
resumes()
{
    "$quern" train gpt --out run --resume --quiet "$@"
}

seq 300 >text
seq 100 >valid
printf '1\n2\n\351\n' >latin
printf '1\n\0002\n' >binary
{
    cat text
    printf '\351\n'
} >end
mkdir bytes # a BPE tokenizer of the bytes and one merge
awk 'BEGIN {
    printf "{"
    other = 256
    for (i = 0; i < 256; i++) {
        prints = (i >= 33 && i <= 126) || (i >= 161 && i != 173)
        printf "%s\"\\u%04x\":%d", i ? "," : "", prints ? i : other++, i
    }
    print ",\"11\":256}"
}' >bytes/vocab.json
echo '1 1' >bytes/merges.txt

check "UTF-8: --valid" refuses '/latin: byte 0xE9 at offset 4 (line 3) is not UTF-8' --data text --valid latin
check "UTF-8: the second file" refuses '/latin: byte 0xE9 at offset 4 (line 3)' --data text latin
check "UTF-8: what to do" refuses '--tokenizer byte' --data text latin
check "UTF-8: the part held out" refuses '/end: byte 0xE9 at offset 1092 (line 301)' --data end
check "UTF-8: byte pairs" refuses '/latin: byte 0xE9 at offset 4 (line 3)' --data text latin --tokenizer bytes
check "NUL: --valid" refuses '/binary: NUL at offset 2 (line 2)' --data text --valid binary
check "NUL: the second file" refuses '/binary: NUL at offset 2 (line 2)' --data text binary
# shellcheck disable=SC2086
check "NUL: byte pairs take it" "$quern" train gpt --data text binary --out pairs --tokenizer bytes $tiny
# shellcheck disable=SC2086
check "bytes take all" "$quern" train gpt --data text binary --valid end --out raw --tokenizer byte $tiny
check "a fraction that leaves nothing" refuses '--valid-fraction 0.9999 leaves 0 of 1092 bytes' \
    --data text --valid-fraction 0.9999
check "a fraction that holds out nothing" refuses 'choose a larger one, or 0' --data text --valid-fraction 0.001

# shellcheck disable=SC2086
check "a run" "$quern" train gpt --data text --valid valid --out run $tiny
mv text moved
check "data that was moved" says 'No such file or directory; if it was moved, name the data anew: --data NEWPATH' \
    train gpt --out run --resume --steps 3
check "named anew" resumes --data moved --steps 3
mv valid elsewhere
check "--valid that was moved" says 'if it was moved, name it anew: --valid NEWPATH' \
    train gpt --out run --resume --data moved --steps 4
check "named anew" resumes --data moved --valid elsewhere --steps 4
echo 301 >>moved
check "data that grew" says 'was 1092 bytes, is 1096 bytes; restore it' train gpt --out run --resume --data moved --steps 5
seq 300 | tr 1 2 >moved
check "data that was edited" says 'was 1092 bytes, is 1092 bytes of other contents' train gpt --out run --resume --data moved --steps 5
check "a prompt that is not UTF-8" says 'the prompt: byte 0xE9 at offset 1 (line 1) is not UTF-8: convert the text' \
    generate run --prompt "$(printf '1\351')"
echo 1 >short
check "too little to evaluate" says 'found 2 (in 2 bytes): give more text' evaluate run --data short
check "a file instead of a model" says 'latin is a file: expected a model' generate latin

seq 400 >text
"$quern" tokenize train --quiet --data text --out learnt --split mark --byte-fallback --vocab 300
"$quern" tokenize encode learnt --quiet --data text --out tokens
# shellcheck disable=SC2086
check "a file of tokens" "$quern" train gpt --data tokens --out mapped --tokenizer learnt $tiny
# shellcheck disable=SC2086
check "is trained on as its text is" sh -c "'$quern' train gpt --data text --valid text --out plain --tokenizer learnt $tiny &&
    '$quern' train gpt --data tokens --valid tokens --out mapped2 --tokenizer learnt $tiny &&
    cmp plain/model.safetensors mapped2/model.safetensors"
check "is evaluated on, too" sh -c "test \"\$('$quern' evaluate mapped --json --data tokens)\" = \"\$('$quern' evaluate mapped --json --data text)\""
check "inspect says what it holds" sh -c "'$quern' inspect tokens | grep -q 'of 1 documents (files), 1.49 kB of text'"
check "and goes on" "$quern" train gpt --out mapped --resume --quiet --steps 3
check "of another tokenizer" refuses 'tokens was made by another tokenizer' --data tokens --tokenizer byte
check "without its tokenizer" refuses 'a file of tokens; name the tokenizer that made it' --data tokens
check "and another" refuses 'tokens is a file of tokens: it cannot be joined' --data tokens text --tokenizer learnt
check "too few tokens" refuses '--valid-fraction 0.0001 leaves' --data tokens --tokenizer learnt --valid-fraction 0.0001
head -c 300 tokens >cut
check "a file of tokens that is cut" refuses 'cut: cut' --data cut --tokenizer learnt
"$quern" tokenize encode learnt --quiet --data text --out tokens --end '<eos>'
check "a file of tokens that was edited" says 'of other contents' train gpt --out mapped --resume --steps 4
for kind in word bpe; do
    # shellcheck disable=SC2086
    check "$kind, learnt from the data" "$quern" train gpt --data text --out "$kind" --tokenizer $kind $tiny
    check "generates" "$quern" generate "$kind" --quiet --tokens 5
    check "goes on" "$quern" train gpt --out "$kind" --resume --quiet --steps 3
done
done_testing
