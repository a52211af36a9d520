# What people do with BusyBox's shell, for the runner: `busybox ash everyday.ash`. Its output on Linux is what Keel must
# give, so nothing here depends on numbers of processes, times or places.

here=$PWD
work=$(./busybox mktemp -d /tmp/everyday.XXXXXX) || exit 1
./busybox mkdir "$work/bin" && ./busybox --install -s "$work/bin" && PATH=$work/bin
cd "$work" || exit 1
umask 022
set -u

title() { printf -- '-- %s\n' "$*"; }

title functions and positional parameters
fibonacci() {
    if [ "$1" -lt 2 ]; then echo "$1"; else echo $(($(fibonacci $(($1 - 1))) + $(fibonacci $(($1 - 2))))); fi
}
echo "fibonacci of 8: $(fibonacci 8)"
set -- "one two" three ''
echo "$# words, the first is '$1'"; shift; for word; do printf '<%s>' "$word"; done; echo
spread() { local IFS=,; echo "$*"; }
spread a b c

title expansions
path=/usr/share/doc/keel.tar.gz
echo "${path##*/} ${path%/*} ${path%%.*} ${#path} ${missing:-default} ${missing:=set} $missing ${path:5:5}"
echo $((3 + 4 * 2)) $((1 << 10)) $((7 % 3)) $((0xff)) "$(echo nested $(echo deeper))"
x=5; x=$((x * x)); echo "$x" 'single $x' "double $x"

title here-documents
while read -r a b; do echo "$b $a"; done <<END
first second
$x third
END
cat <<'END' | sed 's/o/0/g' | tr a-z A-Z
no $expansion
END

title pipes and status
seq 10 | grep -v 5 | awk '{ sum += $1 } END { print sum, NR }'
false | true; echo $?
set -o pipefail; false | true; echo $?; set +o pipefail
! true; echo $?
(exit 9); echo $?; { false || echo or; } && echo and
seq 1 20000 | tail -n 1
echo a b c | { read -r one rest; echo "$rest $one"; }

title redirections
exec 3> third; echo three >&3; exec 3>&-; cat third
{ echo out; echo err >&2; } > both 2>&1; sort both
echo more >> third; wc -l < third; cat third - < both | wc -l
cat nothing 2> error; echo "$? $(cat error)"
: > empty; [ -s empty ] || echo empty
exec 4< third; read -r line <&4; echo "$line"; read -r line <&4; echo "$line"; read -r line <&4 || echo end; exec 4<&-

title background
(sleep 0.02; exit 4) & first=$!
(exit 6) & second=$!
wait $first; echo $?; wait $second; echo $?
sleep 50 & kill -9 $!; wait $! 2> /dev/null; echo $?
for n in 1 2 3; do (echo $n > job$n) & done; wait; cat job1 job2 job3
mkfifo fifo; (echo through the fifo > fifo) & read -r line < fifo; wait; echo "$line"

title traps
(trap 'echo left with $?' EXIT; exit 2)
sh -c 'trap "echo caught; exit 7" TERM; kill -TERM $$; echo unreached'; echo $?
sh -c 'trap "" HUP; kill -HUP $$; echo ignored'
sh -c 'kill -KILL $$'; echo $?
timeout 0.05 sleep 10; echo $?

title tools
printf '3 c\n1 a\n2 b\n' | sort -n | cut -d' ' -f2 | tr -d '\n'; echo
printf 'a:1\nb:2\n' | awk -F: '{ s[$1] = $2 } END { print s["a"] + s["b"] }'
printf 'x\ny\nx\n' | sort | uniq -c | sed 's/^ *//'
echo 'the quick brown fox' | sed -E 's/(quick) (brown)/\2 \1/; y/fx/FX/'
echo hello | md5sum; echo hello | sha256sum; echo hello | od -c | head -n 1; echo hello | base64
expr 6 \* 7; dc -e '6 7 * p'; factor 360; basename /a/b.c .c; dirname /a/b.c
seq 3 | xargs -n 1 echo item; yes | head -n 2 | wc -l; printf '%s\n' b a | tac; echo abc | rev
dd if=/dev/zero of=zeros bs=1000 count=5 2> /dev/null; stat -c '%s %a %F %h' zeros; crc32 zeros;
truncate -s 1M sparse; stat -c %s sparse; du -k sparse | cut -f1
ln zeros hard; ln -s zeros soft; stat -c %h zeros; readlink soft; find . -path ./bin -prune -o -type l -print; cmp zeros hard && echo same
cp -a soft soft2; mv soft2 moved; rm soft; ls -l moved | awk '{ print $1, $(NF-2), $NF }'
mkdir -p deep/er/est && touch deep/er/est/file && find deep | sort && rmdir deep 2>&1; rm -r deep; ls deep 2>&1
chmod 640 third; ls -l third | cut -c1-10; touch -d '2001-02-03 04:05:06' third; date -u -r third '+%Y-%m-%d %H:%M:%S'
diff third both; echo $?; diff -u zeros hard; echo $?
[ third -ot empty ] && echo older; test -r third && test ! -x third && echo readable
nproc > /dev/null; tty < /dev/null; test -t 0 < /dev/null || echo no terminal
echo 'int: 42' | hexdump -C | head -n 1; printf '\101\n'; printf '%s-%03d\n' a 7 b 8
ulimit -n 64; ulimit -n; umask 077; touch private; stat -c %a private

cd "$here" && rm -rf "$work"
title the end
