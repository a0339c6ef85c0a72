package machine

import (
	"os"
	"strings"
)

// Identity tells the machine, and this run of it, from others. What cannot be read is "".
type Identity struct {
	MachineID, BootID string
	// SystemUUID is the firmware's. Where it has none, or nobody may know it, it is the MachineID.
	SystemUUID    string
	KernelVersion string
}

// ReadIdentity asks the kernel and the operating system.
func ReadIdentity() Identity {
	id := Identity{
		MachineID: Line("/etc/machine-id"), BootID: Line("/proc/sys/kernel/random/boot_id"),
		SystemUUID: Line("/sys/class/dmi/id/product_uuid"), KernelVersion: Line("/proc/sys/kernel/osrelease"),
	}
	if id.SystemUUID == "" {
		id.SystemUUID = id.MachineID
	}
	return id
}

// OSRelease is where an operating system says what it is.
const OSRelease = "/etc/os-release"

// OSName is how an operating system calls itself in its os-release file, "" if it does not.
func OSName(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return ""
}
