package notify

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/tidemark/tidemark/pkg/events"
)

// text is one mail in plain text.
type text struct{ subject, body string }

// maxListed is how many lines of an order a mail lists: a mail is read, an invoice of a thousand lines is not.
const maxListed = 20

func placedText(p events.OrderPlaced) text {
	var b strings.Builder
	b.WriteString("thank you for your order. We are reserving your articles and asking for your payment,\nand will write again as soon as both are done.\n\n")
	fmt.Fprintf(&b, "Order:  %s\nPlaced: %s\n\n", clean(p.OrderID), p.PlacedAt.UTC().Format("2 January 2006, 15:04 UTC"))
	for i, l := range p.Lines {
		if i == maxListed {
			fmt.Fprintf(&b, "  and %s\n", count(len(p.Lines)-maxListed, "more line"))
			break
		}
		fmt.Fprintf(&b, "  %s x %s at %s\n", grouped(strconv.FormatInt(l.Quantity, 10)), clean(l.SKU), money(l.UnitPrice, ""))
	}
	fmt.Fprintf(&b, "\nTotal:  %s\n", money(p.Total, p.Currency))
	return mailText("We have your order "+clean(p.OrderID), b.String())
}

func confirmedText(p events.OrderConfirmed) text {
	return mailText("Your order "+clean(p.OrderID)+" is confirmed", fmt.Sprintf(
		"good news: your articles are reserved for you, and your payment has come in.\n\nOrder:   %s\nPaid:    %s\nPayment: %s\n",
		clean(p.OrderID), money(p.Total, p.Currency), clean(p.PaymentID)))
}

func rejectedText(p events.OrderRejected) text {
	return mailText("We can't fulfil your order "+clean(p.OrderID), fmt.Sprintf(
		"we are sorry: %s. You pay nothing for it; a payment that was\nalready taken is given back.\n\nOrder: %s\n", why(p.Reason), clean(p.OrderID)))
}

func cancelledText(p events.OrderCancelled) text {
	body := fmt.Sprintf("your order was cancelled, as you asked. You pay nothing for it; a payment that was\nalready taken is given back.\n\nOrder:  %s\n", clean(p.OrderID))
	if reason := clean(p.Reason); reason != "" {
		body += "Reason: " + reason + "\n"
	}
	return mailText("Your order "+clean(p.OrderID)+" is cancelled", body)
}

// why says a reason to a customer. Reasons may be added, so there are words for those that are newer than this program.
func why(r events.RejectReason) string {
	switch r {
	case events.ReasonOutOfStock:
		return "not all articles of your order are in stock"
	case events.ReasonPaymentDeclined:
		return "the payment for your order was declined"
	case events.ReasonTimeout:
		return "we could not settle your order in time"
	case events.ReasonInvalid:
		return "your order could not be processed"
	}
	return "your order can't be fulfilled"
}

func mailText(subject, body string) text {
	return text{subject: subject, body: "Hello,\n\n" + body + "\nYour Tidemark shop\n"}
}

// money formats an amount, such as "GBP 1,234.50".
func money(m events.Minor, currency string) string {
	whole, fraction, _ := strings.Cut(m.String(), ".")
	amount := grouped(whole) + "." + fraction
	if currency == "" {
		return amount
	}
	return clean(currency) + " " + amount
}

// grouped puts a comma between thousands.
func grouped(digits string) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// maxText bounds what an event can write into a mail in one place. An order's id has at most 128 characters.
const maxText = 128

// clean makes a text that others chose fit for one line of a mail: what does not print (line breaks above all, and marks that turn the
// direction of the writing) becomes a space, and it ends after maxText characters.
func clean(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > maxText {
			b.WriteString("…")
			break
		}
		if !unicode.IsPrint(r) {
			r = ' '
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}
