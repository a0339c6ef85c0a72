package docker

import "fmt"

// Progress is how far a pull is.
type Progress struct {
	Done, Total  int64 // bytes that have come, and that are to come
	More         bool  // of some layers it is not known yet how large they are: Total is going to be more
	Ready, Known int   // layers that are unpacked, and all
}

// String implements fmt.Stringer, such as "34 of 120 MB, 3 of 5 layers". It is empty as long as nothing is known.
func (p Progress) String() string {
	switch layers := fmt.Sprintf("%d of %d layers", p.Ready, p.Known); {
	case p.Known <= 0:
		return ""
	case p.Total <= 0:
		return layers
	case p.More:
		return share(p.Done, p.Total, "at least ") + ", " + layers
	case p.Done < p.Total:
		return share(p.Done, p.Total, "") + ", " + layers
	default:
		n, name := unit(p.Total)
		return fmt.Sprintf("all %s %s, %s unpacked", n(p.Total), name, layers)
	}
}

// share writes how many of all bytes there are, both in the unit of all.
func share(done, all int64, about string) string {
	n, name := unit(all)
	return fmt.Sprintf("%s of %s%s %s", n(done), about, n(all), name)
}

// unit returns the unit in which a number of bytes is written, as registries and Docker do, and how.
func unit(of int64) (write func(int64) string, name string) {
	bytes, name := 1.0, "bytes"
	for _, larger := range []string{"kB", "MB", "GB"} {
		if float64(of) >= 1000*bytes {
			bytes, name = 1000*bytes, larger
		}
	}
	digits := 0
	if bytes > 1 && float64(of) < 10*bytes {
		digits = 1
	}
	return func(n int64) string { return fmt.Sprintf("%.*f", digits, float64(n)/bytes) }, name
}
