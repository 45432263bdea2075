/* What the page looks like: light or dark, on a desk, a phone or paper. */
#include "cli/bench/compare/page.h"

/* Six colours that those who are colour-blind can tell apart too (after Okabe and Ito), darker on white and lighter on black; eight more
 * for kernels.  Nothing is told by colour alone. */
/* clang-format off */

static const char *const rules[] = {
    ":root{color-scheme:light dark;--page:#fff;--card:#f6f7f9;--ink:#1c2024;--soft:#5b636d;--line:#d7dbe0;--shadow:#0006;--heat-ink:0 114 178;",
    "--good:#00684a;--bad:#a33b00;--c0:#0072b2;--c1:#c25400;--c2:#00805c;--c3:#a0447c;--c4:#7a6200;--c5:#4a5058;--on:#fff}",

    "@media(prefers-color-scheme:dark){:root{--page:#14171a;--card:#1d2125;--ink:#e6e8ea;--soft:#a0a8b0;--line:#363c42;--shadow:#fff5;--heat-ink:86 180 233;",
    "--good:#4cc9a0;--bad:#f2955a;--c0:#56b4e9;--c1:#f0954c;--c2:#3cc79c;--c3:#e39ac6;--c4:#e0cf4a;--c5:#b4bac0;--on:#111}}",

    /* Text */
    "*{box-sizing:border-box}",
    "body{margin:0 auto;max-width:1180px;padding:1rem clamp(.75rem,3vw,2rem);background:var(--page);color:var(--ink);",
    "font:15px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}",
    "h1{font-size:1em;color:var(--soft);margin:0;font-weight:600}",
    "h2{font-size:1.25em;margin:2.5rem 0 .5rem;padding-top:.5rem;border-top:2px solid var(--line)}",
    "h3{font-size:1em;margin:1.5rem 0 .4rem}",
    "a{color:var(--c0)}",
    "p{margin:.5rem 0}",
    "small{color:var(--soft);font-size:.85em}",
    "pre,code{font:13px/1.45 ui-monospace,monospace}",
    "pre{white-space:pre-wrap;background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.5rem .75rem;margin:.4rem 0}",
    ".verdict{font-size:1.25em;line-height:1.4;margin:.75rem 0}",
    ".warning{border-left:4px solid var(--bad);padding-left:.75rem}",
    ".note{color:var(--soft);font-size:.9em;max-width:80ch}",
    ".legend{list-style:none;margin:.5rem 0;padding:0}",
    ".legend span:last-child{color:var(--soft)}",
    ".letter{display:inline-block;min-width:1.45em;padding:0 .3em;border-radius:4px;font-weight:700;text-align:center;color:var(--on);line-height:1.4}",
    ".hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}",
    "nav{display:flex;flex-wrap:wrap;gap:.25rem 1rem;margin:1rem 0 0}",
    "footer{margin-top:2.5rem;border-top:2px solid var(--line);color:var(--soft);font-size:.9em}",

    /* Tables */
    /* A shadow at the side where there is more: it stays, and what covers it moves with the table. */
    ".scroll{overflow-x:auto;background:linear-gradient(90deg,var(--page) 40%,transparent) 0/3rem 100% no-repeat local,",
    "linear-gradient(270deg,var(--page) 40%,transparent) 100%/3rem 100% no-repeat local,",
    "linear-gradient(90deg,var(--shadow),transparent) 0/1rem 100% no-repeat,linear-gradient(270deg,var(--shadow),transparent) 100%/1rem 100% no-repeat}",
    "table{border-collapse:collapse;font-size:.9em}",
    "th,td{padding:.2rem .6rem;text-align:left;vertical-align:middle;overflow-wrap:normal}",
    "tbody th{font-weight:500}",
    "thead th{color:var(--soft);font-weight:600;border-bottom:1px solid var(--line);white-space:nowrap}",
    "tbody td,tbody th{border-bottom:1px solid var(--line)}",
    ".text td,.text th{overflow-wrap:anywhere;vertical-align:top;min-width:6rem}",
    ".text th:first-child{min-width:0;overflow-wrap:normal;white-space:nowrap}",
    ".number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}",
    ".numbers th:not(:first-child){text-align:right}",
    ".heat{background:rgb(var(--heat-ink)/calc(var(--heat)*.45))}",
    ".absent{color:var(--soft);font-style:italic}",
    ".v0{color:var(--good);font-weight:600;white-space:nowrap}",
    ".v1{color:var(--bad);font-weight:600;white-space:nowrap}",
    ".v2,.v3{color:var(--soft);white-space:nowrap}",
    "#groups td{white-space:nowrap}",
    "#differs wbr{display:none}",

    /* Devices */
    ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:1rem}",
    ".card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.75rem 1rem}",
    ".card h3{margin:0 0 .5rem}",
    ".card pre{background:var(--page)}",
    "dl{display:grid;grid-template-columns:auto 1fr;gap:.1rem .75rem;margin:0 0 .5rem;font-size:.9em}",
    "dt{color:var(--soft)}",
    "dd{margin:0}",

    /* Bars */
    ".bars{width:100%}",
    ".bars tbody th{vertical-align:top;overflow-wrap:anywhere}",
    ".bars td{padding:.05rem .5rem;border-bottom:0}",
    ".bars tbody tr:last-child td,.bars tbody th{border-bottom:1px solid var(--line)}",
    ".bars tbody tr:first-child td{padding-top:.35rem}",
    ".bars tbody tr:last-child td{padding-bottom:.35rem}",
    ".drawn{min-width:5rem;width:40%}",
    ".bar{display:block;width:100%;height:16px;overflow:visible}",
    ".whisker line{stroke:var(--ink);stroke-width:1.5}",
    ".peak{stroke:var(--soft);stroke-width:1.5;stroke-dasharray:2 2}",
    ".bars{table-layout:fixed}",
    ".bars thead th:nth-child(1){width:14em}.bars thead th:nth-child(2){width:2.6em}.bars thead th:nth-child(4){width:11.5em}",
    ".bars thead th:nth-child(5){width:5.6em}.bars thead th:nth-child(6){width:10em}.bars thead th:nth-child(7){width:6em}",
    "@media screen and (max-width:900px){.bars small{display:block;line-height:1.1}.bars thead th:nth-child(4){width:8.5em}",
    ".bars thead th:nth-child(6){width:5.5em}}",

    /* Figures */
    ".figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:1rem}",
    "figure{margin:0 0 1rem;min-width:0}",
    "figcaption{font-weight:600;margin:.25rem 0}",
    "figure table{width:100%}",
    ".figures table{font-size:.8em}",
    ".figures td,.figures th{padding:.15rem .3rem}.figures tbody th{white-space:nowrap}",
    ".plot{display:block;width:100%;max-width:440px;height:auto}",
    ".plot text{font:14px system-ui,sans-serif;fill:var(--soft)}",
    ".keys{list-style:none;margin:.25rem 0;padding:0;display:flex;flex-wrap:wrap;gap:0 1rem;font-size:.85em}",
    ".key{width:32px;height:10px}",
    ".grid{stroke:var(--line);stroke-width:1}",
    ".frame{fill:none;stroke:var(--soft)}",
    ".roof{stroke:var(--ink);stroke-width:2}",
    ".slope{stroke:var(--soft);stroke-width:3}",
    ".dot{fill-opacity:.6;stroke:var(--page);stroke-width:1}",
    ".curve{fill:none;stroke-width:2}",
    ".reference{fill:none;stroke:var(--line);stroke-width:9;stroke-linecap:round;stroke-linejoin:round}",
    ".d1{stroke-dasharray:7 4}",
    ".d2{stroke-dasharray:2 4}",
    ".d3{stroke-dasharray:9 3 2 3}",
    ".d4{stroke-dasharray:9 3 2 3 2 3}",
    ".stacks{width:100%;margin-bottom:.5rem}",
    ".stacks .drawn{width:100%}",
    ".stacks td,.stacks th{border:0;padding:.1rem .4rem}",
    ".stack{display:block;width:100%;height:22px}",
    ".stack rect{stroke:var(--page);stroke-width:1}",
    ".stack text{font:600 12px system-ui,sans-serif}",
    ".swatch{display:inline-block;min-width:1.6em;border-radius:3px;text-align:center;font-weight:600}",
    ".wide{margin-bottom:1.75rem}",

    /* A phone: a row's name on a line of its own */
    "@media screen and (max-width:640px){body{font-size:14px}.verdict{font-size:1.1em}table{font-size:.8em}",
    "th,td{padding-left:.35rem;padding-right:.35rem}.text th:first-child{white-space:normal}#differs wbr{display:inline}",
    "#groups td:not(.number){white-space:normal;min-width:4.8em}",
    "#failures table,#failures tbody{display:block}#failures thead{display:none}",
    "#failures tr{display:grid;grid-template-columns:auto 1fr;gap:0 .5rem;padding:.35rem 0;border-bottom:1px solid var(--line)}",
    "#failures th,#failures td:last-child{grid-column:1/-1}#failures th,#failures td{border:0;padding:0}",
    ".bars,.bars tbody{display:block}.bars thead{display:none}",
    ".bars tbody{padding:.35rem 0;border-bottom:1px solid var(--line)}",
    ".bars tr{display:grid;grid-template-columns:1.5rem minmax(2rem,1fr) 5.7rem 2.6rem 3.4rem 3.9rem;gap:.1rem .35rem;align-items:center}",
    ".bars tr th{grid-column:1/-1}.bars tbody tr:nth-child(n) td,.bars tbody tr th{border:0;padding:0}",
    ".bars .drawn{width:auto;min-width:0}.bars .absent{grid-column:2/5}}",

    /* Paper */
    "@media print{:root{--page:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--heat-ink:0 114 178;--good:#00684a;--bad:#a33b00;",
    "--c0:#0072b2;--c1:#c25400;--c2:#00805c;--c3:#a0447c;--c4:#7a6200;--c5:#4a5058;--on:#fff}",
    "body{max-width:none;font-size:8.5pt;padding:0}pre,code{font-size:1em}nav{display:none}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}",
    ".card,figure,.bars tbody,tr,p{break-inside:avoid}.cards{grid-template-columns:repeat(auto-fit,minmax(200px,1fr))}h2,h3,thead,.note:not(:last-child){break-after:avoid}.scroll{overflow:visible;background:none}.figures{grid-template-columns:repeat(auto-fill,minmax(200px,1fr))}h2{margin-top:1.5rem}}",
};

/* clang-format on */

/* Kernels: a fill, and ink that can be read on it, the same in light and dark. */
static const char *const kernel_colours[][2] = {
    {"#0072b2", "#fff"}, {"#e69f00", "#111"}, {"#009e73", "#111"},
    {"#cc79a7", "#111"}, {"#56b4e9", "#111"}, {"#d55e00", "#111"},
    {"#f0e442", "#111"}, {"#5e4b8b", "#fff"}, {"#8a9099", "#111"},
};

void put_style(FILE *file)
{
    fputs("<style>\n", file);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        fprintf(file, "%s\n", rules[i]);
    for (size_t i = 0; i < 6; i++)
        fprintf(file,
                ".c%zu{background:var(--c%zu)}.f%zu{fill:var(--c%zu)}.s%zu{stroke:var(--c%zu)}\n",
                i, i, i, i, i, i);
    for (size_t i = 0; i < sizeof kernel_colours / sizeof *kernel_colours; i++) {
        const char *fill = kernel_colours[i][0], *ink = kernel_colours[i][1];
        fprintf(file, ".k%zu{fill:%s}.t%zu{fill:%s}.b%zu{background:%s;color:%s}\n", i, fill, i,
                ink, i, fill, ink);
    }
    fputs("</style>\n", file);
}
