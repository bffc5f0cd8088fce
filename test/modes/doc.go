// Package modes has the tests of all five modes between daemons of timeball: in network
// namespaces, over real UDP, with clocks in software that start wrong. What they send is
// captured and decoded; who lies to them is refused. Other programs have no part in it
// (see test/interop for those), except where a test asks what they make of a reply.
package modes
