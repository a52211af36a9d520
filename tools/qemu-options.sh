# Sourced by the scripts that start QEMU.

# Sets $machine from SMP, MEM (MiB) and UEFI.
machine_options() {
    machine=(-machine q35 -smp "${SMP:-1}" -m "${MEM:-256}" -rtc base=utc -boot d)
    if [ "${UEFI:-0}" != 0 ]; then
        machine+=(-drive if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd
            -drive if=pflash,format=raw,unit=1,snapshot=on,file=/usr/share/OVMF/OVMF_VARS_4M.fd)
    fi
}

# True when KVM really runs guests: /dev/kvm may be there, and its guests spin without getting anywhere, or QEMU gives up.
# The kernel $1 is started for at most ten seconds; under a working KVM it prints within one.
kvm_works() {
    local trial reason="a trial machine printed nothing in ten seconds"
    if [ ! -w /dev/kvm ]; then
        echo "KVM=1: /dev/kvm is missing or may not be written to; going on without KVM" >&2
        return 1
    fi
    trial=$(mktemp -d)
    # In a shell of its own: the one that finds a machine ended by force tells of it.
    (
        qemu-system-x86_64 -accel kvm -cpu host -m 64 -display none -no-reboot -serial "file:$trial/serial" -kernel "$1" \
            > "$trial/said" 2>&1 &
        for ((tenths = 0; tenths < 100; tenths++)); do
            [ ! -s "$trial/serial" ] && kill -0 $! || break
            sleep 0.1
        done
        kill -KILL $!
    ) 2>/dev/null || true
    if [ -s "$trial/serial" ]; then rm -rf "$trial"; return 0; fi
    if [ -s "$trial/said" ]; then reason=$(head -n 1 "$trial/said"); fi
    rm -rf "$trial"
    echo "KVM=1: KVM doesn't work here ($reason); going on without KVM" >&2
    return 1
}
