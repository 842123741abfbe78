export default [
  {
    title: 'Buying a licence',
    text: [
      'Find the licence in the shop and press Add. Open the basket at the top to change how many you want, and go to the checkout when everything is there.',
      'At the checkout you confirm the order first. We then hold the places and the price for ten minutes while you pay. The licences are valid as soon as you have paid.',
    ],
  },
  {
    title: 'What will the season cost?',
    text: [
      'At the bottom of the shop you can get an estimate. Choose a discipline and fill in your age, the number of races and the number of mechanics. One press puts everything in the basket.',
      'The estimate is a guide. The prices in the shop are the ones that count.',
    ],
  },
  {
    title: 'Without a connection',
    text: [
      'What you have seen before can be read without a connection, too. Above each list it says how old the figures are.',
      'Purchases and notes are kept on this device and sent when you are online again. At the top you see how many are waiting. Each purchase is sent once, even if you press twice.',
      'If a purchase is not accepted, for example because the places are gone, the list of what is waiting says so. You can then remove it and order again.',
    ],
  },
  {
    title: 'Orders and licences',
    text: [
      'Orders has your receipts, and Licences what is valid now. Search by number, or use the filters. The address in the browser remembers the search, so you can share it or keep it.',
      'In a long list the arrow keys take you from row to row.',
    ],
  },
  {
    title: 'For officials',
    text: [
      'You see all orders, licences and users. Tick licences in the list to suspend them or to make them valid again, many at a time. An order is refunded from its own page.',
    ],
  },
  {
    title: 'When something goes wrong',
    text: [
      'If one part of the page fails, the rest still works. Try again, and tell us the error number if you get in touch.',
      'The mark at the top shows how the service is doing: a circle when all is well, a triangle when it is slow, a square when it is down, and a diamond when you are offline yourself.',
    ],
  },
];
