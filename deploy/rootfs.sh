#!/usr/bin/env bash
# Builds the file tree of the container image: the binary, what it links, and the few files that it and its libraries read.
#
#   deploy/rootfs.sh BINARY TREE
#
# Used by deploy/Dockerfile on Debian, and by tests/deploy, which run the binary from what comes of it. Must be root, since /data belongs
# to the user that the image runs as.
set -euo pipefail

binary=$1
tree=$2
user=65532

mkdir -p "$tree"
if [[ -n "$(ls -A "$tree")" ]]; then
  echo "$tree is not empty" >&2
  exit 1
fi

# A file to where it is asked for, whatever links lead to it.
carry() { install -D -m "$1" "$(readlink -f "$2")" "$tree$3"; }

carry 755 "$binary" /usr/local/bin/polygate

# Lines of ldd: `libc.so.6 => /lib/…/libc.so.6 (0x…)`, and the loader by its path alone. The kernel's own has no path.
if ! linked=$(ldd "$binary") || grep -q 'not found' <<<"$linked"; then
  echo "$binary links what is not here: $linked" >&2
  exit 1
fi
mapfile -t libraries < <(grep -oE '/[^ ]+' <<<"$linked" | sort -u)
for library in "${libraries[@]}"; do
  carry 755 "$library" "$library"
done

carry 644 /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt

install -d -m 755 "$tree/etc"
printf 'root:x:0:0:root:/:/sbin/nologin\npolygate:x:%s:%s:polygate:/data:/sbin/nologin\n' "$user" "$user" >"$tree/etc/passwd"
printf 'root:x:0:\npolygate:x:%s:\n' "$user" >"$tree/etc/group"
printf 'hosts: files dns\n' >"$tree/etc/nsswitch.conf"

# Which packages these files are of, for scanners, and under which licence. Links (/lib is /usr/lib) are known by either name.
owner() { dpkg-query -S "$1" 2>/dev/null || dpkg-query -S "${1#/usr}" 2>/dev/null || dpkg-query -S "/usr$1"; }
install -d -m 755 "$tree/var/lib/dpkg/status.d"
mapfile -t packages < <(for file in "${libraries[@]}"; do owner "$(readlink -f "$file")" | cut -d: -f1; done | sort -u)
for package in "${packages[@]}" ca-certificates; do
  dpkg-query -s "$package" >"$tree/var/lib/dpkg/status.d/$package"
  carry 644 "/usr/share/doc/$package/copyright" "/usr/share/doc/$package/copyright"
done

install -d -m 1777 "$tree/tmp"
install -d -m 750 -o "$user" -g "$user" "$tree/data"
