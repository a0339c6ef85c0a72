package machine

import "testing"

func TestSwapAndDefaultRoute(t *testing.T) {
	if m, err := parseMemory([]byte("MemTotal: 1 kB\nSwapTotal: 100 kB\nSwapFree: 40 kB\nSwap\n")); err != nil || m.Swap != 100<<10 || m.SwapFree != 40<<10 {
		t.Errorf("swap %d, %d free, %v", m.Swap, m.SwapFree, err)
	}
	routes := "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
		"docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\neth7\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
	if got := parseRoutes([]byte(routes)); got != "eth7" {
		t.Errorf("default route through %q", got)
	}
	if got := parseRoutes([]byte("Iface\n")); got != "" {
		t.Errorf("default route through %q, want none", got)
	}
}
