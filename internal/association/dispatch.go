package association

import "timeball/internal/wire"

// Action says what becomes of a packet (RFC 5905 §9.2).
type Action uint8

// The actions of RFC 5905 Figure 20, by the names it gives them.
const (
	ActionDiscard                 Action = iota // DSCRD: drop it
	ActionProcess                               // PROC: the association takes it
	ActionError                                 // ERR: drop it; two passive ends would wait for each other for ever
	ActionFastTransmit                          // FXMIT: answer at once, without an association
	ActionMobilizePassive                       // NEWPS: a symmetric passive association may be made
	ActionMobilizeManycast                      // MANYC: an answer to a manycast request
	ActionMobilizeBroadcastClient               // NEWBC: a broadcast client may be made
	actions                       = iota
)

var actionNames = [actions]string{"DSCRD", "PROC", "ERR", "FXMIT", "NEWPS", "MANYC", "NEWBC"}

// String returns the name that Figure 20 gives the action.
func (a Action) String() string { return actionNames[a] }

// dispatchTable is RFC 5905 Figure 20: a row for each association mode, a column for
// each packet mode from 1 to 5. Mode 3 never reaches an association: whoever asks is
// answered by the responder, also an end we have an association with (§9.2, FXMIT).
var dispatchTable = [kinds][5]Action{
	//                    1 active               2 passive      3 client              4 server                5 broadcast
	KindNone:            {ActionMobilizePassive, ActionDiscard, ActionFastTransmit, ActionMobilizeManycast, ActionMobilizeBroadcastClient},
	KindActive:          {ActionProcess, ActionProcess, ActionDiscard, ActionDiscard, ActionDiscard},
	KindPassive:         {ActionProcess, ActionError, ActionDiscard, ActionDiscard, ActionDiscard},
	KindClient:          {ActionDiscard, ActionDiscard, ActionDiscard, ActionProcess, ActionDiscard},
	KindServer:          {ActionDiscard, ActionDiscard, ActionDiscard, ActionDiscard, ActionDiscard},
	KindBroadcastServer: {ActionDiscard, ActionDiscard, ActionDiscard, ActionDiscard, ActionDiscard},
	KindBroadcastClient: {ActionDiscard, ActionDiscard, ActionDiscard, ActionDiscard, ActionProcess},
}

// Dispatch says what becomes of a packet of a mode that comes in for an association
// of a kind, KindNone where there is none (RFC 5905 §9.2, Figure 20). Modes outside
// the table (0, 6 and 7) are discarded.
func Dispatch(kind Kind, mode wire.Mode) Action {
	if kind >= kinds || mode < wire.ModeActive || mode > wire.ModeBroadcast {
		return ActionDiscard
	}
	return dispatchTable[kind][mode-wire.ModeActive]
}

// Admission is what is known of a packet that might mobilize an association.
type Admission struct {
	Mode            wire.Mode
	Enabled         bool // passive associations are on, or a broadcast client listens here
	MayFollow       bool // the sender has the access right `peer`
	Authenticated   bool // its MAC verified, with a key that may mobilize
	Unauthenticated bool // the configuration says in words that no key is needed
	CryptoNAK       bool // its trailer is a lone key id
	Own             bool // it comes from one of our own addresses
	Associations    int  // dynamic ones that there are
	Limit           int  // how many there may be
}

// MayMobilize says whether a packet without an association gets one (RFC 5905 §9.2,
// NEWPS and NEWBC), and if not, why. A key is needed unless the configuration says
// otherwise (RFC 8633 §5.5, §5.6); the number is bounded (threat 19).
func MayMobilize(m Admission) (ok bool, why string) {
	switch action := Dispatch(KindNone, m.Mode); {
	case action != ActionMobilizePassive && action != ActionMobilizeBroadcastClient:
		return false, "mode " + m.Mode.String() + " mobilizes nothing"
	case !m.Enabled:
		return false, "not configured"
	case m.Own:
		return false, "our own packet"
	case !m.MayFollow:
		return false, "access right peer is missing"
	case m.CryptoNAK:
		return false, "crypto-NAK"
	case !m.Authenticated && !m.Unauthenticated:
		return false, "not authenticated"
	case m.Associations >= m.Limit:
		return false, "limit of dynamic associations reached"
	}
	return true, ""
}
