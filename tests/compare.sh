#!/bin/sh
# `quern bench compare`: verdicts, any number of reports, the page, and reading it back; files and pages that lie.  No device is used.
command='bench compare'
. "$SRCDIR/tests/command.sh"

# A report of one row, NAME, whose times are SECONDS, with more keys of its own and of the report; and a void row.
report_of()
{
    cat <<END
{"schema": "quern.bench/1", "device": {"device": "a device", "driver": "$3"}${5:+, $5}, "results": [{"id": "$1", "status": "ok",
    "amount": 8, "unit": "B/s", "of_peak": 0.5, "median_s": $2, "median_ci_s": [$2, $2],
    "quiet_s": $2, "quiet_ci_s": [$2, $2]${4:+, $4}}, {"id": "wrong", "status": "void", "reason": "two runs differ"}]}
END
}
is_without()
{
    ! grep -q -e "$2" "$1"
}
is_json()
{
    ! command -v python3 >/dev/null || python3 -m json.tool "$1" >json.out
}

# ---- Two reports ----

report_of copy/8 1.0 one >a.json
report_of copy/8 1.2 'two|three' >b.json
report_of copy/9 1.0 one >c.json
check "slower" exits 0 a.json b.json --json json.tmp
check "times, shares of peaks, the ratio, its interval and the verdict" \
    mentions out.tmp '^| copy/8 | 1000 ± 0 | 50% | 1200 ± 0 | 50% | 1.200 | 1.200 to 1.200 | slower |$'
check "what differs" mentions out.tmp '^| device.driver | one | two\\|three |$'
check "the row that is void" mentions out.tmp '^- wrong is void in A: two runs differ$'
check "the JSON, too" mentions json.tmp '"verdict": "slower"'
check "is JSON" is_json json.tmp
check "faster" exits 0 b.json a.json
check "the verdict" mentions out.tmp '| 0.833 to 0.833 | faster |$'
check "with itself" exits 0 a.json a.json
check "the verdict" mentions out.tmp '| same |$'
check "slower than is allowed" exits 1 a.json b.json --fail-slower 19
check "is said" mentions err.tmp '^quern bench compare: 1 row slower by more than 19%: copy/8$'
check "slower by less" exits 0 a.json b.json --fail-slower 21
check "rows of one file only" exits 0 a.json c.json
check "are named" mentions out.tmp '^- not in A: copy/9$'
check "a row of other work" sh -c 'sed "s/\"amount\": 8/\"amount\": 9/" a.json >bad.json'
check "is compared" exits 0 a.json bad.json
check "but not counted" mentions out.tmp '^B and A: 0 comparable rows; 1 is not comparable; 1 row of A is void; 1 row of B is void.$'
check "as not comparable" mentions out.tmp '| 50% | | | not comparable: not the same work |$'
sed 's/"of_peak": 0.5/"of_peak": null/' a.json >unknown.json
check "a share that is not known" exits 0 unknown.json b.json
check "is left out" mentions out.tmp '^| copy/8 | 1000 ± 0 | | 1200 ± 0 | 50% |'

# fma and a copy, alike in all but their times.
machine()
{
    report_of peak/fma "$1" one | sed 's/, {"id": "wrong".*/,/'
    report_of copy/8 "$1" one | sed '1s/.*"results": .//; s/^ *"amount/"amount/'
}
machine 1.0 >quiet.json
machine 2.0 >busy.json
check "a machine that was slower itself" exits 0 quiet.json busy.json --fail-slower 5
check "is no verdict on a row" mentions out.tmp '^| copy/8 | 1000 ± 0 | 50% | 2000 ± 0 | 50% | 2.000 | .* | unclear |$'
check "but is said" mentions out.tmp 'fma itself took 2.00 times as long'
check "fma is no row" mentions out.tmp '^B and A: 1 row, 1 unclear; 1 row of A is void; 1 row of B is void.$'
# The copy's interval leaves out 1, but not what fma may have taken.
sed '3s/\[1.0, 1.0\]/[0.8, 1.2]/; 6s/1.0, 1.0/0.9, 0.9/; 6s/"quiet_s": 1.0/"quiet_s": 0.9/' quiet.json >varied.json
check "fma that varied" exits 0 quiet.json varied.json --html like.html
check "is no verdict either" mentions out.tmp '^| copy/8 .* | 0.900 to 0.900 | unclear |$'
check "which is told" mentions out.tmp '^1 of the unclear has an interval without 1, but none beyond what fma itself took, 0.800 to 1.200 times as long.$'
check "in the page, too" mentions like.html '>1 of the unclear has an interval without 1, but none beyond what fma itself took'
check "and that is not noise" is_without out.tmp 'too much noise'
sed '6s/1.0, 1.0/0.9, 1.1/' quiet.json >noisy.json
check "a row that varied" exits 0 quiet.json noisy.json
check "is noise, with what would tell more" mentions out.tmp '^unclear: too much noise to tell; longer runs (--seconds), or runs of each by turns (--turns), tell more.$'
with_units()
{
    sed "s/\"driver\":/\"compute_units\": $1, &/"
}
with_units 2 <quiet.json >whole.json
with_units 1 <busy.json >part.json
check "a part of the device" exits 1 whole.json part.json --fail-slower 5
check "is another device" mentions out.tmp '^| copy/8 | 1000 ± 0 | 50% | 2000 ± 0 | 50% | 2.000 | .* | slower |$'
check "not one that others used" is_without out.tmp 'idle machine'
check "peaks are not among what is slower" mentions err.tmp ': 1 row slower by more than 5%: copy/8$'
report_of peak/fma 1.0 one >peak.json
report_of peak/fma 1.2 two >peak2.json
check "nothing but peaks" exits 1 peak.json peak2.json --fail-slower 5
check "is what there is to say" mentions out.tmp '^B and A: 1 peak, 1 slower; 1 row of A is void; 1 row of B is void.$'

# Rows r1 to rN with SECONDS, the first MORE of which do twice the work.
rows_of()
{
    echo '{"schema": "quern.bench/1", "options": {"seconds": 0.29999999999999999}, "started": "'"$4"'", "finished": "'"$4"'", "results": ['
    for i in $(seq "$1"); do
        printf '%s{"id": "r%d", "status": "ok", "amount": %d, "unit": "B/s", "median_s": %s, "median_ci_s": [%s, %s], ' \
            "$([ "$i" = 1 ] || echo ,)" "$i" $((8 + (i <= $3))) "$2" "$2" "$2"
        echo '"quiet_s": '"$2, \"quiet_ci_s\": [$2, $2]}"
    done
    echo ']}'
}
rows_of 12 1.0 0 monday >rows.json
rows_of 12 0.5 9 tuesday >fewer.json
rows_of 12 1.5 0 tuesday | sed 's/0.29999999999999999/0.5/' >more.json
check "most rows of other work" exits 0 rows.json fewer.json --html page.html
check "claim nothing" mentions out.tmp '^B and A: 3 comparable rows, 3 faster; 9 are not comparable.$'
check "nor in the page" mentions page.html '</span> in all 3 comparable rows; 9 are not comparable\.'
check "many rows that are slower" exits 1 rows.json more.json fewer.json --fail-slower 5
check "are named, up to five" mentions err.tmp ': 12 rows slower by more than 5%: r1 (B), r2 (B), r3 (B), r4 (B), r5 (B) and 7 more$'
check "a number is written short" mentions out.tmp '^| options.seconds | 0.3 | 0.5 | 0.3 |$'

# ---- One run twice ----

same='are the same run: what is said of one against the other is no finding'
check "a file twice" exits 0 rows.json rows.json
check "is said to be one" mentions out.tmp "^A and B $same.\$"
check "a file twice, and dated" exits 0 more.json rows.json rows.json
check "is said of those two alone" mentions out.tmp "^B and C $same.\$"
check "and of no other" is_without out.tmp '^A and'" . $same"
check "a page and the file that is in it" exits 0 page.html fewer.json --html again.html
check "are one run" mentions again.html ">B and C $same.<"
sed 's/1\.0/1.1/g' rows.json >copy.json
check "a copy that differs in its figures" exits 0 rows.json copy.json
check "is of the run, too" mentions out.tmp "^A and B $same.\$"

# ---- By turns ----

# Six pairs on a machine that takes one to three times as long, in which B takes 8 to 12 percent longer.
turn=0
turns=
while read -r first second; do
    turn=$((turn + 1))
    report_of copy/8 "$first" one "" "\"started\": \"a$turn\", \"finished\": \"a$turn\"" >a$turn.json
    report_of copy/8 "$second" two "" "\"started\": \"b$turn\", \"finished\": \"b$turn\"" >b$turn.json
    turns="$turns a$turn.json b$turn.json"
done <<END
1.0 1.10
3.0 3.36
2.0 2.16
1.5 1.65
2.5 2.775
1.2 1.308
END
# shellcheck disable=SC2086
by_turns()
{
    expected=$1
    shift
    exits "$expected" --turns $turns "$@"
}
check "runs by turns" by_turns 0 --json json.tmp
check "have the ratio of pairs, in its interval" mentions out.tmp \
    '^| copy/8 | 1750 ± 1e+03 | 50% | 1905 ± 1.1e+03 | 50% | 1.100 | 1.080 to 1.120 | slower |$'
check "are counted once" mentions out.tmp '^B and A: 1 row, 1 slower; 1 row of A is void; 1 row of B is void.$'
check "by a rule that is told" mentions out.tmp '^Of rows in which nothing changed, one in 32 is called'
check "have names" mentions out.tmp '^| | A: a1.json and 5 more | B: b1.json and 5 more |$'
check "in the JSON, too" mentions json.tmp '"turns": 6'
check "all of them" mentions json.tmp '"b6.json"'
check "slower than is allowed" by_turns 1 --fail-slower 7
check "but not by more" by_turns 0 --fail-slower 9
refused_turns()
{
    message=$1
    shift
    exits 1 --turns "$@" && mentions err.tmp "^quern bench compare: --turns.*$message"
}
check "five pairs" refused_turns '6 of each or more, and these are 10' a1.json b1.json a2.json b2.json a3.json b3.json a4.json b4.json a5.json b5.json
check "an odd one" refused_turns 'these are 13' $turns a.json
check "a run twice" refused_turns 'a1.json and a1.json are the same run' $turns a1.json b1.json
sed 's/finished": "b6/finished": "b7/' b6.json >b7.json
check "runs of one side that differ" refused_turns 'a1.json and b7.json should be .* differ in device.driver' $turns b7.json a1.json
check "a page of them" usage_error '--html does not go with --turns' --turns $turns --html turns.html
sed 's/"id": "copy.8", "status": "ok"/"id": "copy\/8", "status": "void", "reason": "it lost"/' b4.json >void4.json
check "a row that is void in one run" exits 0 --turns a1.json b1.json a2.json b2.json a3.json b3.json a4.json void4.json a5.json b5.json a6.json b6.json
check "is void" mentions out.tmp '^- copy/8 is void in B: it lost$'
check "and not ranked" mentions out.tmp '^B and A: 0 rows; 1 row of A is void; 2 rows of B are void.$'

# ---- More ----

report_of copy/8 0.5 four >d.json
echo '{"schema": "quern.bench/1", "results": [{"id": "copy/8", "status": "void", "reason": "it lost"}]}' >void.json
check "three reports" exits 0 a.json d.json b.json --json json.tmp
check "in a row" mentions out.tmp '^| copy/8 | 1000 ± 0 | 50% | 500 ± 0 | 50% | 0.500 | faster | 1200 ± 0 | 50% | 1.200 | slower |$'
check "a column for each" mentions out.tmp '^| device.driver | one | four | two\\|three |$'
check "are counted each" mentions out.tmp '^C and A: 1 row, 1 slower; 1 row of C is void.$'
check "with means by group" mentions out.tmp '^Geometric means of B/A: memory 0.500 of 1.$'
check "the last of three is slower" exits 1 a.json d.json b.json --fail-slower 19
check "none of three is, by so much" exits 0 a.json d.json b.json --fail-slower 21
check "nor is the first" exits 0 b.json a.json d.json --fail-slower 0
check "a row that is void in one" exits 0 a.json void.json b.json --json json.tmp
check "is compared in the others" mentions out.tmp '^| copy/8 | 1000 ± 0 | 50% | | | | | 1200 ± 0 | 50% | 1.200 | slower |$'
check "and named" mentions out.tmp '^- copy/8 is void in B: it lost$'
check "and has no figures" mentions json.tmp '^ *null,$'
check "void where others are compared with it" exits 0 void.json a.json b.json
check "is no verdict" mentions out.tmp '^B and A: 0 rows; 1 row of A is void; 1 row of B is void.$'
check "with nothing to judge" exits 1 void.json a.json b.json --fail-slower 0
check "none is too slow, but who knows" mentions err.tmp '^quern bench compare: --fail-slower: no row of B can be compared with A.s: were all void,'
check "rows of others are not judged by peaks" exits 1 peak.json a.json --fail-slower 0
check "a page of one report has no rows that are slower" exits 2 a.json --html no.html --fail-slower 0
check "more reports than there are letters" exits 1 a.json a.json a.json a.json a.json a.json a.json a.json a.json \
    a.json a.json a.json a.json a.json a.json a.json a.json a.json a.json a.json a.json a.json a.json a.json a.json a.json a.json
check "are refused" mentions err.tmp 'more than 26 reports'

# ---- The page ----

odd='</script><b onload=\"x\">&amp;\u001b[2J\u202e'
report_of train/small 1.0 "$odd" '"losses": [4.0, 3.5, 3.2], "reference_losses": [4.0, 3.5, 3.1], "cold_start_s": 2.5,
    "memory_bytes": {"arena": 1000000, "tensors": 500000, "kept": 0}, "samples_s": [[1.0, 1.25], [1.0]],
    "kernels": [{"name": "gemm<float>", "launches": 3, "seconds": 0.5, "flops": 4e9, "bytes": 1e8},
        {"name": "gather", "launches": 1, "seconds": 0.25, "flops": null, "bytes": null},
        {"name": "c", "seconds": 0}, {"name": "d", "seconds": 0}, {"name": "e"}]' \
    '"argv": ["quern", "bench", "it'"'"'s"], "env": {"QUERN_X": "a b"}, "finished": "today",
    "peaks": {"fma_flops_per_s": 2e10, "gemm_flops_per_s": 1e10, "copies": [{"bytes": 1e6, "bytes_per_s": 3e9}], "launch_s": 1e-5},
    "left_out": [{"id": "train/large", "reason": "it needs 9 TiB"}],
    "sensors": {"source": "sysfs:test", "reason": null, "samples": [{"seconds": 0, "clock_mhz": 1000, "temperature_c": null},
        {"seconds": 1, "clock_mhz": 2000, "temperature_c": null}]}' >"odd <name>&.json"
report_of train/small 1.3 plain '' '"sensors": {"source": null, "reason": "not available: a test"}' >plain.json
is_well_formed()
{
    python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' "$1"
}
has_one_script()
{
    [ "$(grep -c '<script' "$1")" = 1 ] && [ "$(grep -c '</script>' "$1")" = 1 ]
}
sed 's/"wrong"/"copy\/9"/' b.json >wrong.json
check "a page of a row that is void" exits 0 a.json wrong.json --html void.html
check "a page" exits 0 "odd <name>&.json" plain.json void.json --html page.html --json one.json
cp out.tmp one.md
if command -v python3 >/dev/null; then
    check "is well-formed" is_well_formed page.html
else
    skip "well-formed: no python3"
fi
check "nothing ends its script" has_one_script page.html
check "nothing steers a terminal" is_without page.html "$(printf '\033')"
check "nor the direction of text" is_without one.md "$(printf '\342\200\256')"
check "text is text" mentions page.html '&lt;/script&gt;&lt;b onload=&quot;x&quot;&gt;&amp;amp;'
check "a verdict in a sentence" mentions page.html '</span> is <b>slower</b> than <span'
check "what is void" mentions page.html '>it lost<'
check "beside the verdicts, as a warning" mentions page.html '^<p class="warning">1 row of C is <b>void</b> - wrong, or failed - and in no verdict'
check "of the first report, too" mentions page.html '^<p class="warning">1 row of A is <b>void</b>'
check "and among a group.s counts" mentions void.html '<td>1 slower, <b>1 void</b></td>'
check "what was left out" mentions page.html '<td>left out</td><td>it needs 9 TiB<'
check "in the text" mentions one.md '^- train/large is left out in A: it needs 9 TiB$'
check "in the JSON" mentions one.json '"reason": "it needs 9 TiB"'
check "the command that measured it" mentions page.html "QUERN_X=&#39;a b&#39; quern bench &#39;it&#39;.&#39;&#39;s&#39;<"
check "a roofline" mentions page.html '<title>gemm&lt;float&gt; in train/small: 66.7% of the time, 8.00 GFLOP/s, 40 FLOP/B, 40% of the roof'
check "a report without kernels" mentions page.html 'Kernels with their flop and bytes are not in this report'
check "losses and by what they are off" mentions page.html '<td class="number">3.2000</td><td class="number">3.2e-02</td>'
check "memory and the first step" mentions page.html '<td class="number">1.50 MB</td><td class="number">2.50 s</td>'
check "losses of a row that one report alone has" exits 0 a.json "odd <name>&.json" --html own.html
check "are on the page" mentions own.html '<td class="number">3.2000</td><td class="number">3.2e-02</td>'
check "and its kernels" mentions own.html 'gather</th>'
sed 's/3.5, 3.1.,/3.5, 3.2],/' "odd <name>&.json" >held.json
check "losses that are held to another curve" exits 0 "odd <name>&.json" held.json --html own.html
check "are off by theirs" mentions own.html '<td class="number">3.2000</td><td class="number">0.0e+00</td>'
check "which is said" mentions own.html 'held to curves that differ'
check "two curves" test "$(grep -c 'class="reference"' own.html)" = 2
check "seven reports" exits 0 held.json held.json held.json held.json held.json held.json held.json --html own.html
check "of which the first" mentions own.html '<polyline class="curve s0 d0"'
check "and the last are not drawn alike" mentions own.html '<polyline class="curve s0 d2"'
check "the time of kernels" mentions page.html 'gather</th><td class="number">250 ms <small>33%</small></td>'
check "clocks" mentions page.html '1000 to 2000 MHz'
check "no clocks, and why" mentions page.html 'not available: a test'
check "shares of gemm alone, of an older report" mentions one.md '^A is an older report: its shares of FLOP/s are of gemm alone'
check "are said to be that" mentions page.html 'an older report, FLOP/s are a share of its matrix product alone'
sed 's/"fma_flops_per_s"/"flops_per_s": 2e10, "matrix_bf16_flops_per_s": 8e12, &/' "odd <name>&.json" >newer.json
check "those of the greater peak" exits 0 newer.json plain.json --html newer.html
check "are not" is_without out.tmp 'older report'
check "nor in the page" is_without newer.html 'older report'
check "a peak of instructions" mentions newer.html '<dt>peak of matrix instructions in bf16</dt><dd>8.00 TFLOP/s<'
check "is a roof" mentions newer.html '</svg> matrix instructions in bf16 8.00 TFLOP/s<'
check "which is not one of others" is_without page.html 'matrix instructions in bf16'
check "no samples" is_without page.html 'samples_s'
check "reading it back" exits 0 page.html --html again.html --json two.json
check "is the same comparison" cmp one.md out.tmp
check "the same JSON" cmp one.json two.json
check "the same page" cmp page.html again.html
check "a page and a file" exits 0 page.html a.json --json json.tmp
check "are four reports" mentions out.tmp '| D: a.json |$'
check "one report" exits 0 a.json --html page.html
check "has a page" mentions page.html '<b>a device</b>'
check "from which it is read" exits 0 page.html b.json
check "under its name" mentions out.tmp '^| | A: a.json | B: b.json |$'

# ---- Mistakes ----

check "one report and no page" usage_error 'two reports or more; or one, and --html' a.json
check "writing over what is compared" usage_error '--json would write over a.json' a.json b.json --json a.json
check "with a page, too" usage_error '--html would write over b.json' a.json b.json --html b.json
check "two outputs in one file" usage_error 'name the same file' a.json b.json --html x --json x
check "by another path" usage_error 'name the same file' a.json b.json --html x --json "../${PWD##*/}/./x"
cp b.json kept.json
check "a page instead of a report" exits 1 a.json b.json --html kept.json
check "is refused" mentions err.tmp 'kept.json is there, and is no page of HTML: name another file, or remove this one first$'
check "a comparison instead of a report" exits 1 a.json b.json --json kept.json
check "is refused, too" mentions err.tmp 'kept.json is there, and is no comparison of quern bench compare: '
check "nothing was written" cmp b.json kept.json
echo notes >kept.txt
check "nor over what is no JSON" exits 1 a.json b.json --json kept.txt
: >kept.txt
check "what is empty is replaced" exits 0 a.json b.json --json kept.txt
check "and what is alike" exits 0 a.json b.json --json kept.txt --html page.html
check "special files are written to" exits 0 a.json b.json --html /dev/null
check "a page that cannot be written" exits 1 a.json b.json --html nothing/page.html
check "is said" mentions err.tmp 'cannot write nothing/page.html'
check "before anything else" test ! -s out.tmp
check "a file that is not there" exits 1 a.json nothing.json
check "is said" mentions err.tmp 'cannot read nothing.json'

refuses()
{
    message=$1
    cat >bad.json
    exits 1 a.json bad.json && mentions err.tmp "bad.json: .*$message"
}
spoiled()
{
    sed "$1" a.json | refuses "$2"
}
# The same of the report that has everything.
spoiled_all()
{
    sed "$1" "odd <name>&.json" | refuses "$2"
}
check "no JSON" sh -c 'echo "{\"schema\": \033" >bad.json'
check "is refused" exits 1 a.json bad.json
check "and not printed" is_without err.tmp "$(printf '\033')"
check "half a report" sh -c 'head -c 200 a.json >bad.json'
check "is refused" exits 1 a.json bad.json
check "another schema" spoiled 's/bench.1/bench\/2/' 'schema'
check "a negative time" spoiled 's/"median_s": 1/"median_s": -1/' 'results.0..median_s is no time in seconds'
check "a time that no run takes" spoiled 's/"quiet_s": 1.0/"quiet_s": 1e300/' 'quiet_s is no time'
check "a number that is too large for any" spoiled 's/"quiet_s": 1.0/"quiet_s": 1e999/' 'line 3: real number overflow'
check "no number at all" spoiled 's/"quiet_s": 1.0/"quiet_s": NaN/' 'line 3: invalid token'
check "a time that is text" spoiled 's/"quiet_s": 1.0/"quiet_s": "1"/' 'quiet_s is no time in seconds'
check "an interval of one" spoiled 's/"quiet_ci_s": .1.0, /"quiet_ci_s": [/' 'quiet_ci_s is no pair'
check "an interval elsewhere" spoiled 's/"median_ci_s": .1.0, /"median_ci_s": [1.1, /' 'median_ci_s is not around median_s'
check "a name with an escape" spoiled 's/copy.8/\\u001b[2J/' 'results.0..id is no name'
check "a row twice" spoiled 's/"wrong"/"copy\/8"/' 'results.1.: there is a row copy/8 already'
check "a status that there is not" spoiled 's/"void"/"fine"/' 'results.1..status is neither'
check "a share that is text" spoiled 's/0.5/"half"/' 'results.0..of_peak is no number from 0 to 1e+06'
check "a share that cannot be" spoiled 's/0.5/1e300/' 'results.0..of_peak is no number'
check "work that cannot be" spoiled 's/"amount": 8/"amount": -8/' 'results.0..amount is no number'
check "results that are none" spoiled 's/"results": .*/"results": {}}/; 2,$d' 'results is no list'
check "a row that was left out and timed" spoiled_all 's/train.large/train\/small/' 'left_out.0.: there is a row train/small already'
check "rows left out that are no list" spoiled_all 's/"left_out": .*/"left_out": 1,/' 'left_out is no list'
check "a loss that is text" spoiled_all 's/3.5, 3.2/"3.5", 3.2/' 'results.0..losses.1. is no loss'
check "losses that are no list" spoiled_all 's/"losses": .4.0, 3.5, 3.2./"losses": 4/' 'results.0..losses is no list'
check "a kernel without a name" spoiled_all 's/"gemm<float>"/1/' 'results.0..kernels.0..name is no text'
check "a kernel that takes no time that is one" spoiled_all 's/"seconds": 0.5/"seconds": -0.5/' 'kernels.0..seconds is no number'
check "a peak of nothing" spoiled_all 's/2e10/0/' 'peaks.fma_flops_per_s is no number from 1'
check "shares of nothing" spoiled_all 's/"fma_flops_per_s"/"flops_per_s": 0, &/' 'peaks.flops_per_s is no number from 1'
check "a peak of instructions that is text" spoiled_all 's/"fma_flops_per_s"/"matrix_bf16_flops_per_s": "x", &/' 'peaks.matrix_bf16_flops_per_s is no number from 1'
check "a copy that is text" spoiled_all 's/3e9/"fast"/' 'peaks.copies.0..bytes_per_s is no number'
check "a clock that cannot be" spoiled_all 's/2000/2e300/' 'sensors.samples.1..clock_mhz is no number'
check "samples that are no list" spoiled_all 's/"samples": ./"samples": 7, "others": [/' 'sensors.samples is no list'

check "a page" exits 0 a.json b.json --html page.html
check "cut short" sh -c 'sed "s/<.script>.*//" page.html >bad.json'
check "is refused" exits 1 a.json bad.json
check "with the reason" mentions err.tmp 'bad.json: no page of quern bench compare: it has no reports, or is cut short'
check "another page" sh -c 'echo "<html></html>" >bad.json'
check "is refused" exits 1 a.json bad.json
spoiled_page()
{
    sed "/quern-reports/$1" page.html | refuses "$2"
}
check "reports in a page that are no list" spoiled_page 's/"reports":\[/"reports":7,"x":[/' 'the page has no list of reports'
check "a name in a page that is none" spoiled_page 's/"name":"a.json"/"name":7/' 'reports.0.: name is no text'
check "a time in a page that is none" spoiled_page 's/"median_s":1.2/"median_s":-1/' 'reports.1.: results.0..median_s is no time'
done_testing
