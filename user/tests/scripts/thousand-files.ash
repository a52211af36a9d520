# A thousand files in folders, and what people do with them: `busybox ash thousand-files.ash`, for the runner. What the
# tools say on Linux is what they must say on Keel.

here=$PWD
work=$(./busybox mktemp -d /tmp/thousand.XXXXXX) || exit 1
./busybox mkdir "$work/bin" && ./busybox --install -s "$work/bin" && PATH=$work/bin
umask 022
mkdir "$work/tree" && cd "$work/tree" || exit 1

# Ten folders of a hundred files; each holds some lines that tell the files apart.
for folder in 0 1 2 3 4 5 6 7 8 9; do
    mkdir "d$folder"
    n=0
    while [ $n -lt 100 ]; do
        printf 'file %d of folder %d\nsquare %d\nkeel\n' $n $folder $((n * n)) > "d$folder/f$n"
        n=$((n + 1))
    done
done

echo "-- find | xargs"
find . -type f | wc -l
find . -type f | xargs cat | wc
find . -name 'f7*' | sort | head -n 4
find d3 -type f -size -2 | xargs grep -l 'square 81$'
find . -type f -print0 | xargs -0 -n 300 echo | wc -l
find d4 -type f -exec chmod 600 {} +; find . -perm 600 | wc -l
find . -type f -empty | wc -l; find . -links 1 -type f | wc -l

echo "-- md5sum and sort"
find . -type f | sort | xargs md5sum > ../sums; md5sum < ../sums
md5sum -c ../sums | grep -c OK
cut -c1-32 ../sums | sort -u | wc -l
find . -type f | sort -t f -k 2n | tail -n 3

echo "-- awk and sed"
find . -type f | sort | xargs awk '/^square/ { sum += $2 } END { print sum, NR }'
find d1 d2 -type f | xargs sed -i 's/keel/KEEL/'
grep -rl KEEL . | wc -l; grep -rc KEEL d1 | awk -F: '{ n += $2 } END { print n }'
sed -n '2p' d5/f50; cat d?/f3 | sed -e '/^square/d' -e 's/file \([0-9]*\)/\1/' | sort -u | head -n 5

echo "-- tar and gzip"
tar cf ../all.tar . && tar tf ../all.tar | wc -l
gzip -k ../all.tar && gzip -t ../all.tar.gz && zcat ../all.tar.gz | cmp - ../all.tar && echo "gzip gives back what it got"
mkdir ../copy && tar xzf ../all.tar.gz -C ../copy && diff -r . ../copy && echo "the copy is the same"
stat -c '%a' ../copy/d4/f1 ../copy/d5/f1
tar xf ../all.tar -O ./d9/f99
cp -r . ../copied && find ../copied -type f | sort | xargs cat | md5sum
bzip2 -k ../all.tar && bunzip2 -c ../all.tar.bz2 | md5sum > ../one; md5sum < ../all.tar | cmp - ../one && echo "so does bzip2"

echo "-- moving and removing"
for folder in d0 d1 d2; do mv $folder "moved-$folder"; done; ls
for file in d6/*; do ln "$file" "d7/linked-${file#d6/}"; done; stat -c %h d6/f1; ls d7 | wc -l
find . -name 'linked-*' -print0 | xargs -0 rm; stat -c %h d6/f1
find d8 -name '*5*' | xargs rm; ls d8 | wc -l; ls -1 d8 | sort -t f -k 2n | head -n 3
rm -r d9 && ls -d d9 2>&1; find . -type f | wc -l
du -s ../copy > /dev/null && ls ../copy/d0 | head -n 2

cd "$here" && rm -rf "$work" && [ ! -e "$work" ] && echo "-- the end"
