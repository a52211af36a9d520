# Sourced by the scripts that start QEMU.

# Sets $machine from SMP, MEM (MiB) and UEFI.
machine_options() {
    machine=(-machine q35 -smp "${SMP:-1}" -m "${MEM:-256}" -rtc base=utc -boot d)
    if [ "${UEFI:-0}" != 0 ]; then
        machine+=(-drive if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd
            -drive if=pflash,format=raw,unit=1,snapshot=on,file=/usr/share/OVMF/OVMF_VARS_4M.fd)
    fi
}

# True when KVM really runs guests: /dev/kvm may be there, and its guests spin without getting anywhere. Keel's kernel is
# started for at most ten seconds; under a working KVM it prints within one.
kvm_works() {
    local serial pid tenths
    if [ ! -w /dev/kvm ]; then
        echo "KVM=1: /dev/kvm is missing or may not be written to; going on without KVM" >&2
        return 1
    fi
    serial=$(mktemp)
    qemu-system-x86_64 -accel kvm -cpu host -m 64 -display none -no-reboot -serial "file:$serial" -kernel "$1" \
        > /dev/null 2>&1 &
    pid=$!
    for ((tenths = 0; tenths < 100; tenths++)); do
        [ -s "$serial" ] && break
        kill -0 $pid 2>/dev/null || break
        sleep 0.1
    done
    { kill -KILL $pid; wait $pid; } 2>/dev/null || true
    if [ -s "$serial" ]; then rm -f "$serial"; return 0; fi
    rm -f "$serial"
    echo "KVM=1: a trial machine got nowhere in ten seconds; going on without KVM" >&2
    return 1
}
