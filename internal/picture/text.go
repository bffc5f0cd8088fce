package picture

import (
	"strings"
	"unicode"
)

// textWidth estimates the width of a text in pixels, on the wide side. No font is at
// hand, and a viewer may take another one than we think of: the widths are those of
// Helvetica and its like by classes, in thousandths of the size.
func textWidth(text string, size float64) float64 {
	sum := 0
	for _, c := range text {
		sum += runeWidth(c)
	}
	return float64(sum) * size / 1000
}

func runeWidth(c rune) int {
	switch {
	case strings.ContainsRune(" !'|,.:;/ijlI[]", c):
		return 290
	case strings.ContainsRune("frt()-`\"*\\{}", c):
		return 390
	case strings.ContainsRune("mwMW@%", c):
		return 920
	case c >= 0x1100: // Hangul, Han, Kana, pictures; a few narrow ones get too much room
		return 1000
	case unicode.IsUpper(c):
		return 740
	case unicode.Is(unicode.Mn, c):
		return 0
	}
	return 580
}

// fitText cuts a text that is wider than so many pixels, and shows where. The result is
// on one line.
func fitText(text string, size, width float64) string {
	text = strings.Join(strings.Fields(text), " ")
	if textWidth(text, size) <= width {
		return text
	}
	const ellipsis = "…"
	left := width - textWidth(ellipsis, size)
	for i, c := range text {
		if left -= textWidth(string(c), size); left < 0 {
			return strings.TrimRight(text[:i], " ") + ellipsis
		}
	}
	return text
}

// label is a few words beside a vertical line.
type label struct {
	text   string
	x      float64 // of the line
	ink    ink
	from   float64 // where the words begin
	width  float64
	leftOf bool // the line, because there is no room on its right
	row    int  // from the bottom; −1: there is no room
}

// arrange gives each label, in the order of x, the lowest of so many rows in which it
// overlaps none before it, between the edges left and right.
func arrange(labels []label, rows int, left, right float64) {
	for i := range labels {
		l := &labels[i]
		l.text = fitText(l.text, markSize, right-left-labelGap)
		l.width = textWidth(l.text, markSize)
		l.from = l.x + labelGap
		if l.from+l.width > right {
			l.leftOf, l.from = true, l.x-labelGap-l.width
		}
		if l.from < left { // too long for either side: across the line
			l.leftOf, l.from = false, right-l.width
		}
		for l.hitsAny(labels[:i]) {
			l.row++
		}
		if l.row >= rows {
			l.row = -1
		}
	}
}

// hitsAny says whether a label overlaps one of others in its row.
func (l *label) hitsAny(others []label) bool {
	for i := range others {
		o := &others[i]
		if o.row == l.row && l.from < o.from+o.width+2*labelGap && o.from < l.from+l.width+2*labelGap {
			return true
		}
	}
	return false
}
