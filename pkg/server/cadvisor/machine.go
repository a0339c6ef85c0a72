package cadvisor

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/machine"
	dto "github.com/prometheus/client_model/go"
)

// addMachine adds the machine_* metrics and what says how the reading went.
func addMachine(p *page, version string, failed bool) {
	id := machine.ReadIdentity() // as in the node's status
	who := []*dto.LabelPair{pair("boot_id", id.BootID), pair("machine_id", id.MachineID), pair("system_uuid", id.SystemUUID)}
	now := time.Now()
	put := func(name, help string, value float64, extra ...string) {
		var names, values []string
		for i := 0; i+1 < len(extra); i += 2 {
			names, values = append(names, extra[i]), append(values, extra[i+1])
		}
		p.put(name, help, gauge, value, now, withExtra(who, names, values))
	}
	c := readCPUs()
	put("machine_cpu_cores", "Number of logical CPU cores.", float64(runtime.NumCPU()))
	put("machine_cpu_physical_cores", "Number of physical CPU cores.", float64(c.cores))
	put("machine_cpu_sockets", "Number of CPU sockets.", float64(c.sockets))
	memory, err := machine.ReadMemory()
	if err == nil {
		put("machine_memory_bytes", "Amount of memory installed on the machine.", float64(memory.Total))
	}
	put("machine_swap_bytes", "Amount of swap memory available on the machine.", float64(memory.Swap))
	// Persistent memory is not looked for: a stock kubelet is built without it as well.
	for _, mode := range []string{"memory_mode", "app_direct_mode"} {
		put("machine_nvm_capacity", "NVM capacity value labeled by NVM mode (memory mode or app direct mode).", 0, "mode", mode)
	}
	put("machine_nvm_avg_power_budget_watts", "NVM power budget.", 0)
	wrong := 0.0
	if failed {
		wrong = 1
	}
	p.put("container_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", gauge, wrong, time.Time{}, nil)
	p.put("machine_scrape_error", "1 if there was an error while getting machine metrics, 0 otherwise.", gauge, 0, time.Time{}, nil)
	p.put("cadvisor_version_info", "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & cadvisor revision.",
		gauge, 1, time.Time{}, []*dto.LabelPair{
			pair("cadvisorRevision", ""), pair("cadvisorVersion", version), pair("dockerVersion", ""),
			pair("kernelVersion", id.KernelVersion), pair("osVersion", machine.OSName(machine.OSRelease)),
		})
}

type cpus struct{ cores, sockets int }

// readCPUs counts the cores that share nothing but their socket. Where the kernel does not
// tell, each CPU is one.
func readCPUs() cpus {
	text, _ := os.ReadFile("/proc/cpuinfo")
	c := parseCPUs(text)
	if c.cores == 0 {
		c.cores = runtime.NumCPU()
	}
	if c.sockets == 0 {
		c.sockets = 1
	}
	return c
}

func parseCPUs(text []byte) cpus {
	sockets, cores := map[string]bool{}, map[string]bool{}
	socket := ""
	for l := range bytes.Lines(text) {
		name, value, ok := strings.Cut(string(l), ":")
		if !ok {
			continue
		}
		switch value = strings.TrimSpace(value); strings.TrimSpace(name) {
		case "physical id":
			socket = value
			sockets[socket] = true
		case "core id":
			cores[socket+"/"+value] = true
		}
	}
	return cpus{len(cores), len(sockets)}
}
