// Package recovery lets a panic end only the call that caused it, not the agent, on
// which all pods of the node depend.
package recovery

import (
	"fmt"
	"runtime/debug"

	"k8s.io/klog/v2"
)

// Call calls f and returns its error. If f panics, the panic is logged with its
// stack and returned as an error. A goroutine that works for a call or a request
// needs a Call of its own: nobody else can recover its panic.
func Call(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			klog.ErrorS(err, "Recovered from a defect of this program, please report it", "stack", string(debug.Stack()))
		}
	}()
	return f()
}
