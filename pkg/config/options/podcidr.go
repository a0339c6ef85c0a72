package options

import (
	"fmt"
	"net/netip"
	"strings"
)

// CheckPodCIDR checks a value of podCIDR, which is also the form in which CRI's UpdateRuntimeConfig
// takes it: one CIDR, or one of each family separated by a comma.
func CheckPodCIDR(s string) error {
	var families []bool
	for part := range strings.SplitSeq(s, ",") {
		c, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil {
			return fmt.Errorf("%q is not a CIDR such as 10.1.2.0/24", part)
		}
		families = append(families, c.Addr().Is4())
	}
	if len(families) > 2 || len(families) == 2 && families[0] == families[1] {
		return fmt.Errorf("%q: want one CIDR, or one of each family", s)
	}
	return nil
}
