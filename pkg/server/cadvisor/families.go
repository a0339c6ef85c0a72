package cadvisor

import (
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/cgroupstats"
)

// usage is what is known of one subject at a time.
type usage struct {
	cgroupstats.Full
	started    time.Time
	interfaces []cgroupstats.Interface
	disks      []disk
	storage    []storage
	counted    bool // the next two are known
	files      uint64
	sockets    uint64
}

// disk is what was read from a block device and written to it.
type disk struct {
	device string
	cgroupstats.DeviceIO
}

// storage is what a subject occupies of a file system.
type storage struct {
	device             string
	used, capacity     uint64 // bytes
	inodes, inodesFree uint64
}

// put takes a value and those of the family's own labels.
type put func(value float64, extra ...string)

// family is a metric of all subjects.
type family struct {
	name, help string
	kind       dto.MetricType
	extra      []string // labels beside those of every subject
	timeless   bool     // its values are not of a moment
	of         func(*usage, put)
}

const (
	counter = dto.MetricType_COUNTER
	gauge   = dto.MetricType_GAUGE
)

func number(v uint64) float64 { return float64(v) }

// seconds converts nanoseconds.
func seconds(ns uint64) float64 { return float64(ns) / float64(time.Second) }

// one is a family with one value.
func one(of func(*usage) float64) func(*usage, put) {
	return func(u *usage, put put) { put(of(u)) }
}

// memory is a family with one value, of what has memory of its own.
func memory(of func(*usage) uint64) func(*usage, put) {
	return func(u *usage, put put) {
		if u.HasMemory {
			put(number(of(u)))
		}
	}
}

// open is a family about open files.
func open(of func(*usage) uint64) func(*usage, put) {
	return func(u *usage, put put) {
		if u.counted {
			put(number(of(u)))
		}
	}
}

// throttling is a family of what has a quota.
func throttling(of func(cgroupstats.Throttling) float64) func(*usage, put) {
	return func(u *usage, put put) {
		if u.Quota > 0 {
			put(of(u.Throttling))
		}
	}
}

func network(of func(cgroupstats.Interface) uint64) func(*usage, put) {
	return func(u *usage, put put) {
		for _, i := range u.interfaces {
			put(number(of(i)), i.Name)
		}
	}
}

func disks(of func(disk) uint64) func(*usage, put) {
	return func(u *usage, put put) {
		for _, d := range u.disks {
			put(number(of(d)), d.device)
		}
	}
}

func stored(of func(storage) uint64) func(*usage, put) {
	return func(u *usage, put put) {
		for _, s := range u.storage {
			put(number(of(s)), s.device)
		}
	}
}

// pressure is a family of what the kernel measures stalls of; its times are in microseconds.
func pressure(of func(cgroupstats.Pressure) *cgroupstats.Stall, full bool) func(*usage, put) {
	return func(u *usage, put put) {
		s := of(u.Pressure)
		switch {
		case s == nil:
		case full:
			put(seconds(s.Full.Total * uint64(time.Microsecond)))
		default:
			put(seconds(s.Some.Total * uint64(time.Microsecond)))
		}
	}
}

var (
	byInterface = []string{"interface"}
	byDevice    = []string{"device"}
)

// families are the metrics that a stock kubelet has of each cgroup, in the order of their
// names. Those of kernel settings that neither cgroup v1 nor v2 keeps for a container by itself
// (container_tasks_state, container_cpu_load_average_10s) are gone from the kubelet too.
var families = []family{
	{"container_blkio_device_usage_total", "Blkio Device bytes usage", counter, []string{"device", "major", "minor", "operation"}, false, blkio},
	{"container_cpu_cfs_burst_periods_total", "Number of periods when burst occurs.", counter, nil, false,
		throttling(func(t cgroupstats.Throttling) float64 { return number(t.Bursts) })},
	{"container_cpu_cfs_burst_seconds_total", "Total time duration the container has been bursted.", counter, nil, false,
		throttling(func(t cgroupstats.Throttling) float64 { return seconds(t.BurstingTime) })},
	{"container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", counter, nil, false,
		throttling(func(t cgroupstats.Throttling) float64 { return number(t.Periods) })},
	{"container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", counter, nil, false,
		throttling(func(t cgroupstats.Throttling) float64 { return number(t.Throttled) })},
	{"container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.", counter, nil, false,
		throttling(func(t cgroupstats.Throttling) float64 { return seconds(t.ThrottledTime) })},
	{"container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", counter, nil, false,
		one(func(u *usage) float64 { return seconds(u.System) })},
	{"container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", counter, []string{"cpu"}, false,
		func(u *usage, put put) { put(seconds(u.CPU), "total") }},
	{"container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", counter, nil, false,
		one(func(u *usage) float64 { return seconds(u.User) })},
	{"container_file_descriptors", "Number of open file descriptors for the container.", gauge, nil, false,
		open(func(u *usage) uint64 { return u.files })},
	{"container_fs_inodes_free", "Number of available Inodes", gauge, byDevice, false, stored(func(s storage) uint64 { return s.inodesFree })},
	{"container_fs_inodes_total", "Number of Inodes", gauge, byDevice, false, stored(func(s storage) uint64 { return s.inodes })},
	{"container_fs_limit_bytes", "Number of bytes that can be consumed by the container on this filesystem.", gauge, byDevice, false,
		stored(func(s storage) uint64 { return s.capacity })},
	{"container_fs_reads_bytes_total", "Cumulative count of bytes read", counter, byDevice, false, disks(func(d disk) uint64 { return d.ReadBytes })},
	{"container_fs_reads_total", "Cumulative count of reads completed", counter, byDevice, false, disks(func(d disk) uint64 { return d.Reads })},
	{"container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", gauge, byDevice, false,
		stored(func(s storage) uint64 { return s.used })},
	{"container_fs_writes_bytes_total", "Cumulative count of bytes written", counter, byDevice, false, disks(func(d disk) uint64 { return d.WrittenBytes })},
	{"container_fs_writes_total", "Cumulative count of writes completed", counter, byDevice, false, disks(func(d disk) uint64 { return d.Writes })},
	{"container_last_seen", "Last time a container was seen by the exporter", gauge, nil, false,
		one(func(u *usage) float64 { return float64(u.At.Unix()) })},
	{"container_memory_cache", "Number of bytes of page cache memory.", gauge, nil, false, memory(func(u *usage) uint64 { return u.Cache })},
	{"container_memory_failcnt", "Number of memory usage hits limits", counter, nil, false, memory(func(u *usage) uint64 { return u.MemoryFails })},
	{"container_memory_failures_total", "Cumulative count of memory allocation failures.", counter, []string{"failure_type", "scope"}, false, faults},
	{"container_memory_kernel_usage", "Size of kernel memory allocated in bytes.", gauge, nil, false, memory(func(u *usage) uint64 { return u.KernelMemory })},
	{"container_memory_mapped_file", "Size of memory mapped files in bytes.", gauge, nil, false, memory(func(u *usage) uint64 { return u.MappedFile })},
	{"container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes", gauge, nil, false, memory(func(u *usage) uint64 { return u.PeakMemory })},
	{"container_memory_rss", "Size of RSS in bytes.", gauge, nil, false, memory(func(u *usage) uint64 { return u.RSS })},
	{"container_memory_swap", "Container swap usage in bytes.", gauge, nil, false, memory(func(u *usage) uint64 { return u.Swap })},
	{"container_memory_total_active_file_bytes", "Current total active file in bytes.", gauge, nil, false, memory(func(u *usage) uint64 { return u.Active })},
	{"container_memory_total_inactive_file_bytes", "Current total inactive file in bytes.", gauge, nil, false, memory(func(u *usage) uint64 { return u.Inactive })},
	{"container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed", gauge, nil, false,
		memory(func(u *usage) uint64 { return u.Memory })},
	{"container_memory_working_set_bytes", "Current working set in bytes.", gauge, nil, false, memory(func(u *usage) uint64 { return u.WorkingSet })},
	{"container_network_receive_bytes_total", "Cumulative count of bytes received", counter, byInterface, false,
		network(func(i cgroupstats.Interface) uint64 { return i.RxBytes })},
	{"container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", counter, byInterface, false,
		network(func(i cgroupstats.Interface) uint64 { return i.RxErrors })},
	{"container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", counter, byInterface, false,
		network(func(i cgroupstats.Interface) uint64 { return i.RxDropped })},
	{"container_network_receive_packets_total", "Cumulative count of packets received", counter, byInterface, false,
		network(func(i cgroupstats.Interface) uint64 { return i.RxPackets })},
	{"container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", counter, byInterface, false,
		network(func(i cgroupstats.Interface) uint64 { return i.TxBytes })},
	{"container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", counter, byInterface, false,
		network(func(i cgroupstats.Interface) uint64 { return i.TxErrors })},
	{"container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting", counter, byInterface, false,
		network(func(i cgroupstats.Interface) uint64 { return i.TxDropped })},
	{"container_network_transmit_packets_total", "Cumulative count of packets transmitted", counter, byInterface, false,
		network(func(i cgroupstats.Interface) uint64 { return i.TxPackets })},
	{"container_oom_events_total", "Count of out of memory events observed for the container", counter, nil, false,
		one(func(u *usage) float64 { return number(u.OOMKills) })},
	{"container_pressure_cpu_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to CPU congestion.", counter, nil, false,
		pressure(func(p cgroupstats.Pressure) *cgroupstats.Stall { return p.CPU }, true)},
	{"container_pressure_cpu_waiting_seconds_total", "Total time duration tasks in the container have waited due to CPU congestion.", counter, nil, false,
		pressure(func(p cgroupstats.Pressure) *cgroupstats.Stall { return p.CPU }, false)},
	{"container_pressure_io_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to IO congestion.", counter, nil, false,
		pressure(func(p cgroupstats.Pressure) *cgroupstats.Stall { return p.IO }, true)},
	{"container_pressure_io_waiting_seconds_total", "Total time duration tasks in the container have waited due to IO congestion.", counter, nil, false,
		pressure(func(p cgroupstats.Pressure) *cgroupstats.Stall { return p.IO }, false)},
	{"container_pressure_memory_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to memory congestion.", counter, nil, false,
		pressure(func(p cgroupstats.Pressure) *cgroupstats.Stall { return p.Memory }, true)},
	{"container_pressure_memory_waiting_seconds_total", "Total time duration tasks in the container have waited due to memory congestion.", counter, nil, false,
		pressure(func(p cgroupstats.Pressure) *cgroupstats.Stall { return p.Memory }, false)},
	{"container_processes", "Number of processes running inside the container.", gauge, nil, false,
		one(func(u *usage) float64 { return float64(len(u.PIDs)) })},
	{"container_sockets", "Number of open sockets for the container.", gauge, nil, false, open(func(u *usage) uint64 { return u.sockets })},
	{"container_spec_cpu_period", "CPU period of the container.", gauge, nil, true, one(func(u *usage) float64 { return number(u.Period) })},
	{"container_spec_cpu_quota", "CPU quota of the container.", gauge, nil, true, func(u *usage, put put) {
		if u.Quota > 0 {
			put(number(u.Quota))
		}
	}},
	{"container_spec_cpu_shares", "CPU share of the container.", gauge, nil, true, one(func(u *usage) float64 { return number(u.Shares) })},
	{"container_spec_memory_limit_bytes", "Memory limit for the container.", gauge, nil, true, memory(func(u *usage) uint64 { return u.MemoryLimit })},
	{"container_spec_memory_reservation_limit_bytes", "Memory reservation limit for the container.", gauge, nil, true,
		memory(func(u *usage) uint64 { return u.Reservation })},
	{"container_spec_memory_swap_limit_bytes", "Memory swap limit for the container.", gauge, nil, true, memory(func(u *usage) uint64 { return u.BothLimit })},
	{"container_start_time_seconds", "Start time of the container since unix epoch in seconds.", gauge, nil, true, func(u *usage, put put) {
		if !u.started.IsZero() {
			put(float64(u.started.Unix()))
		}
	}},
	{"container_threads", "Number of threads running inside the container", gauge, nil, false, one(func(u *usage) float64 { return number(u.Processes) })},
	{"container_threads_max", "Maximum number of threads allowed inside the container, infinity if value is zero", gauge, nil, false,
		one(func(u *usage) float64 { return number(u.MaxProcesses) })},
}

func blkio(u *usage, put put) {
	for _, d := range u.disks {
		major, minor := text(d.Major), text(d.Minor)
		put(number(d.ReadBytes), d.device, major, minor, "Read")
		put(number(d.WrittenBytes), d.device, major, minor, "Write")
	}
}

// faults: the kernel's numbers are of the cgroup and those below it, and are told under both
// scopes, as cAdvisor does.
func faults(u *usage, put put) {
	if !u.HasMemory {
		return
	}
	for _, scope := range []string{"container", "hierarchy"} {
		put(number(u.PageFaults), "pgfault", scope)
		put(number(u.MajorFaults), "pgmajfault", scope)
	}
}
