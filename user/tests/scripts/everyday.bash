# What people do with bash, for the runner: `bash everyday.bash`. Its output on Linux is what Keel must give, so nothing
# here depends on numbers of processes, times or places. The commands are BusyBox's, the same bytes on both.

here=$PWD
work=$(./busybox mktemp -d /tmp/everyday.XXXXXX) || exit 1
./busybox mkdir "$work/bin" && ./busybox --install -s "$work/bin" && PATH=$work/bin
cd "$work" || exit 1
umask 022
set -u
shopt -s extglob nullglob
LC_ALL=C

title() { printf -- '-- %s\n' "$*"; }

title functions, local variables and recursion
depth=outer
factorial() {
    local n=$1 depth=inner
    if ((n <= 1)); then echo 1; else echo $((n * $(factorial $((n - 1))))); fi
}
echo "10! = $(factorial 10), depth stays $depth"
fails() { return 42; }
fails
echo "status $?, and of a negation: $(! fails; echo $?)"

title arrays
numbers=({1..9} 10)
squares=()
for n in "${numbers[@]}"; do squares+=($((n * n))); done
echo "${#squares[@]} squares: ${squares[*]:3:4} and last ${squares[-1]}"
unset 'squares[2]'
echo "indices: ${!squares[*]}"
words=("one two" three "")
for word in "${words[@]}"; do printf '<%s>' "$word"; done
echo
mapfile -t lines < <(printf 'first\nsecond line\n\nfourth')
printf '%s lines, the second is "%s"\n' "${#lines[@]}" "${lines[1]}"

title associative arrays
declare -A colour=([apple]=red [plum]=blue [pear]=green)
colour[apple]+=dish
for key in $(printf '%s\n' "${!colour[@]}" | sort); do echo "$key is ${colour[$key]}"; done
[[ -v colour[fig] ]] || echo "no fig among ${#colour[@]}"

title strings
path=/usr/share/doc/keel.tar.gz
echo "${path##*/} ${path%/*} ${path%%.*} ${path#*.} ${#path} ${path:5:5} ${path: -6:3}"
echo "${path//\//:} ${path/#\/usr/\/opt} ${path^^} ${missing-unset} ${missing:=now set} $missing"
text='  some   text  '
shopt -s extglob
trimmed=${text##+( )}
echo "[${trimmed%%+( )}] ${text// /}"
[[ keel-0.9.17 =~ ^([a-z]+)-([0-9]+)\.([0-9]+) ]] && echo "${BASH_REMATCH[1]} ${BASH_REMATCH[3]}"
printf '%05d|%-6s|%6.2f|%x|%o|%c|%b|%q\n' 42 left 3.14159 255 8 z 'tab\there' "it's"
printf -v joined '%s,' a b c && echo "${joined%,}"

title arithmetic
echo $((7 / 2)) $((-7 % 3)) $((2 ** 20)) $((0x1f + 010 + 2#101)) $((5 > 3 ? 1 : 0)) $((1 << 40))
((i = 5, j = i++ * 2)); echo "$i $j $((~0 & 0xff)) $((9223372036854775807 + 1))"
let 'k = 3 * (4 + 5)'; echo $k

title here-documents and here-strings
name=reader
cat <<END
Dear $name, $((1 + 1)) and $(echo nested).
END
cat <<'END' | tr a-z A-Z
Not $expanded here.
END
cat <<-END
	tabs are taken away
	END
read -r one two rest <<< "first second third fourth"
echo "$two / $rest"

title pipelines
printf '%s\n' pear apple fig apple | sort | uniq -c | sort -rn | awk '{ print $2 "=" $1 }'
true | fails | (exit 3) | false
echo "statuses ${PIPESTATUS[*]}"
set -o pipefail
fails | true
echo "pipefail gives $?"
set +o pipefail
yes keel | head -n 3
echo "yes ended by $(kill -l $((${PIPESTATUS[0]} - 128)) 2>/dev/null || echo nothing)"
seq 1 100000 | wc -l
shopt -s lastpipe
seq 5 | while read -r n; do total=$((${total:-0} + n)); done
echo "a loop at a pipe's end in this shell: ${total:-lost}"

title subshells and groups
value=kept
(value=lost; cd /; exit 5)
echo "$value $? $([[ $PWD == "$work" ]] && echo same folder)"
{ echo out; echo err >&2; } 2>&1 | sort
echo "$BASH_SUBSHELL $(echo $BASH_SUBSHELL) $( (echo $BASH_SUBSHELL) )"

title redirections
{ echo one; echo two; } > file
echo three >> file
exec 5<> file
read -r line <&5; echo "line $line"; printf 'TWO' >&5; exec 5>&-
cat file
exec 6> log; echo logged >&6; exec 6>&-; cat < log
echo gone 2> /dev/null > /dev/null
cat missing 2>&1 || echo "cat gave $?"
set -C; (echo over > file) 2> /dev/null || echo "noclobber holds"; echo over >| file; set +C; cat file

title process substitution
diff <(printf 'a\nb\nc\n') <(printf 'a\nB\nc\n') | tail -n +2
paste <(seq 3) <(seq 4 6) | tr '\t' ' '
echo "to a process" > >(tr a-z A-Z > upper); until [[ -s upper ]]; do sleep 0.01; done; cat upper

title background jobs
for n in 3 1 2; do (sleep 0.0$n; exit $((n * 10))) & ids[n]=$!; done
for n in 1 2 3; do wait "${ids[n]}"; echo "job $n ended with $?"; done
sleep 100 & kill $!; wait $! 2> /dev/null; echo "a killed job: $?"
(exit 7) & wait -n; echo "wait -n: $?"
coproc doubler { while read -r n; do echo $((n * 2)); done; }
echo 21 >&"${doubler[1]}"; read -r answer <&"${doubler[0]}"; echo "coprocess says $answer"
kill "$doubler_PID"; wait "$doubler_PID" 2> /dev/null; echo "and ended with $?"

title traps
(trap 'echo "leaving with $?"' EXIT; exit 3)
(trap 'echo "got TERM"; exit 9' TERM; kill -TERM $BASHPID; echo unreached); echo "status $?"
(trap '' INT; kill -INT $BASHPID; echo "INT is ignored")
(trap 'echo "line failed"' ERR; false; true)
(trap 'echo "USR1 in a wait"' USR1; (sleep 0.05; kill -USR1 $BASHPID) & me=$BASHPID; (sleep 0.05; kill -USR1 "$me") & wait $!; echo "wait was left with $?"; wait) 2> /dev/null

title options
options() {
    local OPTIND=1 flag verbose=no output=none
    while getopts :vo: flag; do
        case $flag in
            v) verbose=yes ;;
            o) output=$OPTARG ;;
            :) echo "-$OPTARG needs an argument" ;;
            \?) echo "no option -$OPTARG" ;;
        esac
    done
    shift $((OPTIND - 1))
    echo "verbose $verbose, output $output, rest: $*"
}
options -v -o file a b
options -vx -o

title globbing and tests
mkdir -p tree/{a,b}/deep
touch tree/{a,b}/{x,y}.txt tree/a/deep/z.txt .hidden
echo tree/*/*.txt
echo tree/a/!(x).txt tree/[[:alpha:]]/?.txt nothing*here
shopt -s globstar; echo tree/**/*.txt
for thing in tree file /dev/null missing; do
    [[ -d $thing ]] && echo "$thing: folder"; [[ -f $thing ]] && echo "$thing: file"
    [[ -c $thing ]] && echo "$thing: device"; [[ -e $thing ]] || echo "$thing: nothing"
done
ln -s file link; ln file hard; [[ -L link && file -ef hard && ! link -nt hard ]] && echo "links are seen"

title control flow
for ((i = 0; i < 10; i++)); do ((i % 2)) && continue; ((i > 6)) && break; printf '%d ' "$i"; done; echo
until ((i-- <= 5)); do :; done; echo "$i"
case banana in a*) echo no ;; *an*) echo matched ;;& *a) echo "and again" ;; esac
while IFS=: read -r user _ id _; do [[ $id == 0 ]] && echo "$user has number 0"; done <<< $'root:x:0:0\nnobody:x:65534:1'
eval 'a=1; b=$((a + 1))'; echo "$a$b"
indirect=name; echo "${!indirect} ${name@Q} ${name@U}"

title limits and masks
(umask 027; touch masked; mkdir maskeddir); stat -c '%a %F' masked maskeddir
(ulimit -n 20; ulimit -n; exec 19> nineteen && echo "19 is free"; { exec 20> twenty; } 2> /dev/null || echo "20 isn't")
(ulimit -f 1; trap '' XFSZ; head -c 5000 /dev/zero > large; stat -c %s large) 2> /dev/null

cd "$here" && rm -rf "$work"
title the end
