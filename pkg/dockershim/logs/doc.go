// Package logs gives containers their logs in CRI format ("TIME stdout F text")
// at the path that the CRI client chose. The dockershim calls it when a container
// starts, dies, is removed, or when its log was rotated.
//
//	container ─▶ dockerd ─▶ ID-json.log, .1, .2, .3 ─▶ Manager ─▶ 0.log (CRI)
//	             (never waits for us)      inotify ┘      └ position file
//
// Docker keeps a small rotated copy (DockerLogConfig) and the Manager copies it over.
// What it writes is a pure function of Docker's records, and a position file says which
// record belongs to which size of the CRI file. After a kill at any moment the records
// behind the position are converted again, and the part that the CRI file already holds
// is dropped: no line is lost, doubled or torn. Only Docker's own retention sets a limit:
// a container that writes more than that (at least 24 MiB of records) while nobody copies
// loses the excess, and a line in the log says so.
package logs
