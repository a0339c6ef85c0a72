package options

import "testing"

func TestCheckPodCIDR(t *testing.T) {
	for cidr, ok := range map[string]bool{
		"10.1.2.0/24": true, "fd00::/64": true, "10.1.2.0/24,fd00::/64": true, "fd00::/64, 10.1.2.0/24": true,
		"": false, "10.1.2.0": false, "10.1.2.0/99": false, "10.1.2.0/24,": false, "10.1.2.0/24,10.1.3.0/24": false,
		"10.1.2.0/24,fd00::/64,10.1.3.0/24": false, "pods": false,
	} {
		if err := CheckPodCIDR(cidr); (err == nil) != ok {
			t.Errorf("%q: %v", cidr, err)
		}
	}
}
