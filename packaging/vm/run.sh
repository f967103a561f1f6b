#!/usr/bin/env bash
# The unit under a real systemd: boots Debian in QEMU (no KVM needed), installs the deb there and leads it through its
# life (life.sh). Ends with 0 where every step did what it should. As root, from anywhere:
#   packaging/vm/run.sh target/packages/fivetuple_0.1.0-1_amd64.deb
# Needs mmdebstrap, qemu-system-x86 and e2fsprogs; keeps Debian's files in $CACHE (360 MB). About five minutes.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
deb=$(realpath "$1")
suite=${SUITE:-bookworm}
cache=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/fivetuple-vm}
mkdir -p "$cache"
tar=$cache/$suite.tar
if [ ! -f "$tar" ]; then
    mmdebstrap --variant=minbase --format=tar "$suite" "$tar.part" --include=systemd,systemd-sysv,udev,init-system-helpers,passwd,iproute2,curl,procps,kmod,bpftool,linux-image-cloud-amd64
    mv "$tar.part" "$tar"
fi

work=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
mkdir "$work/root"
tar -C "$work/root" -xf "$tar"
cp "$deb" "$work/root/fivetuple.deb"
install -m 0755 "$here/life.sh" "$work/root/life.sh"
cat > "$work/root/etc/systemd/system/life.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
ExecStart=/life.sh
ExecStopPost=/usr/bin/systemctl --no-block poweroff
TimeoutStartSec=infinity
[Install]
WantedBy=multi-user.target
UNIT
ln -s /etc/systemd/system/life.service "$work/root/etc/systemd/system/multi-user.target.wants/life.service"
ln -sf /dev/null "$work/root/etc/systemd/system/serial-getty@ttyS0.service"
kernel=$(echo "$work"/root/boot/vmlinuz-*)
initrd=$(echo "$work"/root/boot/initrd.img-*)
mke2fs -q -t ext4 -d "$work/root" "$work/disk" 2G > /dev/null

timeout "${VM_TIMEOUT:-1200}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 1024 -smp 2 \
    -nodefaults -no-user-config -nographic -no-reboot -serial stdio -monitor none \
    -drive "file=$work/disk,format=raw,if=virtio,cache=unsafe" \
    -kernel "$kernel" -initrd "$initrd" -append "root=/dev/vda rw console=ttyS0 panic=-1 mitigations=off systemd.show_status=1" \
    < /dev/null | stdbuf -oL tr -d '\r' | tee "$work/log"
grep -q '^life: all is well$' "$work/log"
