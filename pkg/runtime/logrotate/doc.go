// Package logrotate keeps the logs of containers in bounds: a log that has reached
// containerLogMaxSize is renamed and the runtime told to go on in a new file, the older ones
// are compressed, and the oldest removed, as the kubelet does it.
//
//	0.log                     the runtime writes here
//	0.log.20261130-003259     renamed last: log collectors may still read it, so it stays as it is
//	0.log.20261130-003249.gz  older, compressed
//	0.log.20261130-003249.tmp being compressed
//
//	PLEG's view ─▶ Rotator ── one stat a log ─▶ plan ─▶ rename, ReopenContainerLog, remove
//	                                              └───▶ compress (workers)
//
// What is to be done follows from the names in the directory alone, so that an agent that was
// killed between any two steps goes on where it was: see plan. No line is lost, since only
// what the runtime has left for good is compressed or removed.
package logrotate
