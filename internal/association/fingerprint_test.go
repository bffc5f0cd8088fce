package association

import "fmt"

// fingerprint writes down all that an association is.
func fingerprint(a *Association) string {
	return fmt.Sprintf("%+v|%+v|%+v|%+v|%+v|%+v|%+v|%+v|%v%v%v", a.status, a.poll, a.pending, a.last, a.asking,
		a.symmetric, a.sender, a.listener, a.reachState, a.announced, a.done)
}
